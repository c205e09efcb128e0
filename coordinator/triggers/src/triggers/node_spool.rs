//! `node-spool`: files that wait in a directory of the nodes.

use std::path::{Component, Path};
use std::sync::Arc;
use std::time::Duration;

use neap_units::MilliValue;

use super::polled::{external_kind, external_metric};
use crate::built::{Activation, BuiltTrigger, Source, Spool};
use crate::config::TriggerConfig;
use crate::error::FieldError;
use crate::metadata::{self, Field};
use crate::registry::Checked;

const FIELDS: &[Field] = &[
    Field::text("path").required(),
    Field::float("value").required(),
    Field::float("activationValue").or_default("0"),
    Field::duration("maxAge"),
];

/// As the contract with the agents bounds it.
const MAX_PATH: usize = 1_024;

pub(crate) fn build(config: &TriggerConfig) -> Checked {
    let (settings, mut errors) = metadata::read(&[FIELDS], config);
    let kind = external_kind(config, &mut errors);
    let value = settings.float("value");
    let mut number = |field: &'static str, wrong: bool, allowed: &'static str| {
        if wrong && !errors.iter().any(|error| error.field == field) {
            let given = config.metadata.get(field).cloned().unwrap_or_default();
            errors.push(FieldError::invalid(field, given, allowed));
        }
    };
    number(
        "value",
        MilliValue::from_metric_f64(value) <= MilliValue::ZERO,
        "it must be a number of files greater than 0",
    );
    let activation = settings.float("activationValue");
    number(
        "activationValue",
        activation < 0.0,
        "it must be a number of files of 0 or more",
    );
    let text = settings.text("path");
    let path = match normal(text) {
        Ok(path) => Some(path),
        // That it is missing has been said.
        Err(_) if text.is_empty() => None,
        Err(allowed) => {
            errors.push(FieldError::invalid("path", text, allowed));
            None
        }
    };
    let (Some(path), true) = (path, errors.is_empty()) else {
        return Err(errors);
    };
    let metrics = external_metric(
        config,
        kind,
        &format!("node-spool{path}"),
        MilliValue::from_metric_f64(value),
    );
    let max_age = Some(settings.duration("maxAge")).filter(|age| !age.is_zero());
    // As it travels; less than a millisecond is not no age.
    let max_age = max_age.map(|age| {
        Duration::from_millis(u64::try_from(age.as_millis()).unwrap_or(u64::MAX).max(1))
    });
    let source = Source::Spool(Spool { path, max_age });
    Ok(BuiltTrigger::new(
        "node-spool",
        config,
        metrics,
        Activation::Above(activation),
        source,
        settings,
    ))
}

/// The path without needless parts, or what is allowed.
fn normal(text: &str) -> Result<Arc<str>, &'static str> {
    let mut path = String::new();
    for part in Path::new(text).components() {
        match part {
            Component::RootDir => {}
            Component::Normal(part) if text.starts_with('/') => {
                path.push('/');
                path.push_str(&part.to_string_lossy());
            }
            Component::ParentDir => return Err("it must not have parts \"..\""),
            _ => return Err("it must begin with /: it is a directory of the nodes"),
        }
    }
    if text.contains('\0') || path.len() > MAX_PATH {
        return Err("it must have at most 1024 bytes, and none of them 0");
    }
    if path.is_empty() {
        return Err("it must be a directory below /");
    }
    Ok(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExternalKind, Target, TriggerContext, build};

    fn with(metadata: &[(&str, &str)]) -> TriggerConfig {
        let mut config = TriggerConfig::new("node-spool", TriggerContext::default());
        config.metadata = metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        config
    }

    #[test]
    fn reads_its_fields() {
        let built = build(&with(&[
            ("path", "/var/spool//jobs/./"),
            ("value", "2.5"),
            ("activationValue", "3"),
            ("maxAge", "1h"),
        ]))
        .expect("valid");
        let Source::Spool(spool) = &built.source else {
            panic!("{built:?}")
        };
        assert_eq!(&*spool.path, "/var/spool/jobs");
        assert_eq!(spool.max_age, Some(Duration::from_secs(3_600)));
        assert_eq!(built.activation, Activation::Above(3.0));
        assert_eq!(built.metrics[0].name, "s0-node-spool-var-spool-jobs");
        let target = |built: &BuiltTrigger| built.metrics[0].target.clone();
        let per_replica = Target::External {
            kind: ExternalKind::AverageValue,
            value: MilliValue::new(2_500),
        };
        assert_eq!(target(&built), per_replica);

        let mut config = with(&[("path", "/spool"), ("value", "4")]);
        config.metric_type = Some("Value".to_owned());
        let built = build(&config).expect("valid");
        assert!(matches!(
            target(&built),
            Target::External {
                kind: ExternalKind::Value,
                ..
            }
        ));
        assert!(matches!(&built.source, Source::Spool(spool) if spool.max_age.is_none()));
    }

    #[test]
    fn names_every_fault() {
        let error =
            |metadata: &[(&str, &str)]| build(&with(metadata)).expect_err("refused").to_string();
        let missing = error(&[]);
        assert!(
            missing.contains("path is missing") && missing.contains("value is missing"),
            "{missing}"
        );
        for (path, allowed) in [
            ("spool/jobs", "it must begin with /"),
            ("./spool", "it must begin with /"),
            ("/var/spool/../../etc", "it must not have parts \"..\""),
            ("../spool", "it must not have parts \"..\""),
            ("/", "it must be a directory below /"),
        ] {
            let text = error(&[("path", path), ("value", "1")]);
            assert!(
                text.contains(&format!("path: {path:?}")) && text.contains(allowed),
                "{text}"
            );
        }
        let long = format!("/{}", "x".repeat(MAX_PATH));
        assert!(error(&[("path", &long), ("value", "1")]).contains("1024 bytes"));
        let all = error(&[
            ("path", "/spool"),
            ("value", "0"),
            ("activationValue", "-1"),
            ("maxAge", "soon"),
        ]);
        for part in [
            "value: \"0\"",
            "greater than 0",
            "activationValue: \"-1\"",
            "0 or more",
            "maxAge: \"soon\"",
        ] {
            assert!(all.contains(part), "{part} in {all}");
        }
    }
}
