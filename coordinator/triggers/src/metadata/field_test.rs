use std::time::Duration;

use super::*;
use crate::TriggerContext;
use crate::metadata::read;

fn config(metadata: &[(&str, &str)], auth: &[(&str, &str)], env: &[(&str, &str)]) -> TriggerConfig {
    let mut config = TriggerConfig::new("test", TriggerContext::default());
    config.metadata = metadata
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    config.auth_params = auth.iter().copied().collect();
    config.resolved_env = env.iter().copied().collect();
    config
}

fn one(
    field: Field,
    metadata: &[(&str, &str)],
    auth: &[(&str, &str)],
    env: &[(&str, &str)],
) -> Result<Value, String> {
    let (settings, errors) = read(&[&[field]], &config(metadata, auth, env));
    match &errors[..] {
        [] => Ok(settings.get(field.name()).cloned().expect("set")),
        [error] => Err(error.to_string()),
        more => panic!("{more:?}"),
    }
}

fn text(value: &str) -> Result<Value, String> {
    Ok(Value::Text(value.to_owned()))
}

#[test]
fn the_first_source_that_is_not_blank_wins() {
    const FIELD: Field = Field::text("host").or_named(&["hosts"]).from(&[
        Origin::Metadata,
        Origin::Env,
        Origin::Auth,
    ]);
    let auth = [("host", "auth")];
    let env = [("HOST", "env")];
    assert_eq!(one(FIELD, &[("host", " meta ")], &auth, &env), text("meta"));
    assert_eq!(
        one(FIELD, &[("hosts", "alias")], &auth, &env),
        text("alias")
    );
    assert_eq!(
        one(
            FIELD,
            &[("host", "  "), ("hostFromEnv", "HOST")],
            &auth,
            &env
        ),
        text("env")
    );
    assert_eq!(
        one(FIELD, &[("hostsFromEnv", "HOST")], &auth, &env),
        text("env")
    );
    assert_eq!(
        one(FIELD, &[("hostFromEnv", "OTHER")], &auth, &env),
        text("auth"),
        "an unknown variable counts as absent"
    );
    assert_eq!(
        one(FIELD, &[("Host", "meta")], &[], &env),
        text(""),
        "keys are case-sensitive"
    );
    const AUTH_FIRST: Field = Field::text("host").from(&[Origin::Auth, Origin::Metadata]);
    assert_eq!(
        one(AUTH_FIRST, &[("host", "meta")], &auth, &[]),
        text("auth")
    );
    assert_eq!(
        one(Field::text("host"), &[], &auth, &env),
        text(""),
        "not a source of this field"
    );
}

#[test]
fn absence_is_a_default_or_a_fault() {
    assert_eq!(
        one(Field::float("x").or_default("5"), &[("x", "")], &[], &[]),
        Ok(Value::Float(5.0))
    );
    assert_eq!(one(Field::float("x"), &[], &[], &[]), Ok(Value::Float(0.0)));
    let missing = one(Field::float("x").required(), &[("x", "  ")], &[], &[]).expect_err("missing");
    assert_eq!(
        missing,
        "x is missing: it must be a number such as 5 or 0.5, given in metadata"
    );
    const SECRET: Field = Field::text("password")
        .from(&[Origin::Auth, Origin::Env])
        .required();
    let missing = one(SECRET, &[("password", "here")], &[], &[]).expect_err("missing");
    assert!(
        missing.contains("in the TriggerAuthentication") && missing.contains("passwordFromEnv"),
        "{missing}"
    );
}

#[test]
fn faults_name_field_value_and_what_is_allowed() {
    let fault = |field: Field, value: &str| {
        one(field, &[(field.name(), value)], &[], &[]).expect_err(value)
    };
    assert_eq!(
        fault(Field::float("threshold"), "one"),
        "threshold: \"one\" is not allowed: it must be a number such as 5 or 0.5"
    );
    assert!(fault(Field::new("port", Kind::Integer(1, 65535)), "0").contains("from 1 to 65535"));
    assert!(fault(Field::boolean("on"), "yes").contains("true or false"));
    assert!(fault(Field::duration("timeout"), "-1").contains("not negative"));
    assert!(fault(Field::new("headers", Kind::Map), "a=1,b").contains("key=value"));
    assert!(fault(Field::new("headers", Kind::Map), "a=1=2").contains("key=value"));
    assert!(fault(Field::text("mode").one_of(&["a", "b"]), "a,c").contains("one of a, b"));
    assert!(
        fault(Field::list("modes").at_most_one_of(&["a", "b"]), "a, b")
            .contains("only one of a, b")
    );
    assert!(
        fault(Field::text("type").removed("set metricType instead"), "x")
            .contains("set metricType instead")
    );
    assert!(fault(Field::new("n", Kind::Integers), "1,x").contains("whole numbers"));
    assert!(fault(Field::new("n", Kind::Integers).with_range('-'), "1-2-3").contains("1-4"));
    assert!(
        fault(
            Field::new("n", Kind::Integers).with_range('-'),
            "0-2000000000"
        )
        .contains("at most 10000")
    );
}

#[test]
fn compound_values_are_split_and_trimmed() {
    let value =
        |field: Field, value: &str| one(field, &[(field.name(), value)], &[], &[]).expect(value);
    assert_eq!(
        value(Field::list("l"), "a, b ,,c"),
        Value::List(["a", "b", "", "c"].map(str::to_owned).to_vec())
    );
    assert_eq!(
        value(Field::list("l").separated_by(';'), "a,b;c"),
        Value::List(["a,b", "c"].map(str::to_owned).to_vec())
    );
    assert_eq!(
        value(Field::new("n", Kind::Integers).with_range('-'), "1,3-5, 9"),
        Value::Integers(vec![1, 3, 4, 5, 9])
    );
    assert_eq!(
        value(Field::new("n", Kind::Integers).with_range('-'), "5-3"),
        Value::Integers(vec![])
    );
    let map = [("a", "1"), ("b", "x y")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(
        value(Field::new("m", Kind::Map), "a = 1, b=x y"),
        Value::Map(map.into())
    );
    assert_eq!(
        value(Field::duration("d"), "1500"),
        Value::Duration(Duration::from_millis(1500))
    );
    assert_eq!(
        value(
            Field::text("e").one_of(&["latest", "earliest"]),
            "latest,earliest"
        ),
        Value::Text("latest,earliest".to_owned())
    );
}

#[test]
fn secrets_do_not_show() {
    const FIELDS: &[Field] = &[
        Field::text("password").secret(),
        Field::text("user").from(&[Origin::Auth]),
        Field::integer("count").from(&[Origin::Env]),
        Field::text("host"),
    ];
    let config = config(
        &[
            ("password", "hunter2"),
            ("countFromEnv", "COUNT"),
            ("host", "db.example"),
        ],
        &[("user", "alice-secret")],
        &[("COUNT", "s3cret")],
    );
    let (settings, errors) = read(&[FIELDS], &config);
    let shown = format!(
        "{settings:?} {errors:?} {:?} {:?}",
        config.auth_params, config.resolved_env
    );
    for secret in ["hunter2", "alice-secret", "s3cret"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(
        shown.contains("db.example") && shown.contains("count"),
        "{shown}"
    );
}
