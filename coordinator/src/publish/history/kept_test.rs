use super::*;

fn key(name: &str) -> TargetKey {
    TargetKey::new("ns", name)
}

fn row(name: &str, at: i64) -> ChangeRow {
    ChangeRow {
        key: key(name),
        at_micros: at,
        desired: i32::try_from(at).unwrap(),
        decision: json!({"at": at}).to_string(),
    }
}

fn at(micros: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(micros).unwrap()
}

fn changes(history: &History, name: &str) -> Vec<Value> {
    history.of(&key(name)).0
}

#[test]
fn a_change_that_is_told_again_is_kept_once_and_in_its_place() {
    let history = History::default();
    for at in [1, 3, 1, 2, 3] {
        history.keep_told(row("a", at));
    }
    assert_eq!(
        changes(&history, "a"),
        [json!({"at": 3}), json!({"at": 2}), json!({"at": 1})]
    );
    assert_eq!(history.last_desired(&key("a")), Some(3));
    assert_eq!(history.take_unwritten().len(), 3, "each is written once");
    assert_eq!(
        history.own_since(0).0.len(),
        0,
        "what was told is not told on"
    );
}

#[test]
fn none_outlives_its_target() {
    let history = History::default();
    for name in ["a", "b", "c"] {
        history.keep_told(row(name, 1));
    }
    history.forget(&key("a"));
    history.retain(|key| &*key.name == "c");
    assert_eq!(changes(&history, "a"), [] as [Value; 0]);
    assert_eq!(changes(&history, "b"), [] as [Value; 0]);
    assert_eq!(changes(&history, "c").len(), 1);
}

#[test]
fn the_oldest_changes_go_first() {
    let one = row("a", 1).decision.len();
    let history = History::with_limit(3 * one);
    for at in 1..=5 {
        history.keep_told(row("a", at));
    }
    assert_eq!(
        changes(&history, "a"),
        [json!({"at": 5}), json!({"at": 4}), json!({"at": 3})]
    );
    let history = History::default();
    for at in 0..100 {
        history.keep_told(row("a", at));
    }
    assert_eq!(changes(&history, "a").len(), CHANGES);
}

#[test]
fn a_gap_is_said_of_the_time_that_is_kept() {
    let history = History::default();
    history.heard(at(1_000_000), false);
    history.gap(at(10), at(20));
    history.keep_told(row("a", 15));
    history.keep_told(row("b", 30));
    let gap = |from, to| json!({"from": at(from).to_string(), "to": at(to).to_string()});
    assert_eq!(history.of(&key("a")).1, json!([gap(10, 20)]));
    assert_eq!(history.of(&key("b")).1, json!([]), "it ended before");
    history.gap(at(40), at(40));
    assert_eq!(history.of(&key("b")).1, json!([]), "no time has passed");
}

#[test]
fn a_silence_longer_than_what_is_told_again_is_a_gap() {
    let history = History::default();
    let s = |seconds: i64| at(seconds * 1_000_000);
    history.heard(s(100), false);
    history.heard(s(105), false);
    assert_eq!(history.of(&key("a")).1, json!([]));
    history.heard(s(130), false);
    let gap = json!({"from": s(105).to_string(), "to": s(130).to_string()});
    assert_eq!(history.of(&key("a")).1, json!([gap]));
    // The only member misses nothing: nobody else decides.
    history.heard(s(500), true);
    assert_eq!(history.of(&key("a")).1.as_array().unwrap().len(), 1);

    // After a restart it is known until when this replica listened.
    let records = history.take_unwritten();
    let again = History::default();
    again.load(records);
    again.heard(s(900), false);
    let gaps = again.of(&key("a")).1;
    assert_eq!(gaps[0]["from"], json!(s(500).to_string()));
    assert_eq!(gaps[0]["to"], json!(s(900).to_string()));
}
