use super::*;

const SERVICE: &str = "neap-coordinator:9700";

fn hint(address: &str, leader: &str, term: u64) -> LeaderHint {
    LeaderHint {
        is_leader: address == leader,
        leader_address: leader.into(),
        term,
        replicas: vec!["a:1".into(), "b:1".into(), "c:1".into()],
        address: address.into(),
    }
}

fn plan(pool: &mut Pool, now: Instant) -> Vec<Action> {
    pool.plan(now, |_| 0).0
}

fn opened(actions: &[Action]) -> Vec<(LinkId, &str)> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Open(id, address) => Some((*id, address.as_str())),
            _ => None,
        })
        .collect()
}

/// A pool with an active stream to `a` and an idle one to `b`.
fn settled(now: Instant) -> (Pool, LinkId, LinkId) {
    let mut pool = Pool::new(SERVICE.into());
    let first = opened(&plan(&mut pool, now))[0].0;
    pool.hinted(first, hint("a:1", "a:1", 1));
    assert_eq!(plan(&mut pool, now), [Action::Activate(Some(first))]);
    let actions = plan(&mut pool, now + GIVE_WAY);
    let opened = opened(&actions);
    assert_eq!(opened.len(), 1);
    assert_eq!(opened[0].1, "b:1");
    pool.hinted(opened[0].0, hint("b:1", "a:1", 1));
    assert_eq!(plan(&mut pool, now), []);
    (pool, first, opened[0].0)
}

#[tokio::test]
async fn it_begins_with_the_service_and_adds_an_idle_stream() {
    settled(Instant::now());
}

#[tokio::test]
async fn with_one_replica_there_is_no_idle_stream() {
    let now = Instant::now();
    let mut pool = Pool::new(SERVICE.into());
    let id = opened(&plan(&mut pool, now))[0].0;
    pool.hinted(
        id,
        LeaderHint {
            replicas: vec!["a:1".into()],
            ..hint("a:1", "a:1", 1)
        },
    );
    assert_eq!(plan(&mut pool, now), [Action::Activate(Some(id))]);
    assert_eq!(plan(&mut pool, now), []);
}

#[tokio::test]
async fn a_follower_sends_it_to_the_leader_and_stays_as_the_idle_one() {
    let now = Instant::now();
    let mut pool = Pool::new(SERVICE.into());
    let first = opened(&plan(&mut pool, now))[0].0;
    pool.hinted(first, hint("c:1", "a:1", 3));
    let actions = plan(&mut pool, now);
    let second = opened(&actions)[0];
    assert_eq!((second.1, pool.active()), ("a:1", None));
    pool.hinted(second.0, hint("a:1", "a:1", 3));
    assert_eq!(plan(&mut pool, now), [Action::Activate(Some(second.0))]);
}

#[tokio::test]
async fn an_idle_stream_whose_replica_becomes_leader_is_active_at_once() {
    let now = Instant::now();
    let (mut pool, active, idle) = settled(now);
    // The old leader is cut off and still believes.
    pool.hinted(idle, hint("b:1", "b:1", 2));
    assert_eq!(plan(&mut pool, now), [Action::Activate(Some(idle))]);
    pool.ended(active, now, 0.0);
    assert_eq!(plan(&mut pool, now), []);
    // Another idle one is opened in its time.
    assert_eq!(opened(&plan(&mut pool, now + GIVE_WAY)).len(), 1);
}

#[tokio::test]
async fn a_leader_that_says_nothing_more_is_left_for_a_newer_one_that_another_replica_names() {
    let now = Instant::now();
    let (mut pool, stopped, idle) = settled(now);
    // The machine of `a` has stopped: its stream stays and its last hint stands.
    pool.hinted(idle, hint("b:1", "c:1", 2));
    let actions = plan(&mut pool, now);
    let (newer, address) = opened(&actions)[0];
    assert_eq!(address, "c:1");
    assert_eq!(
        actions,
        [Action::Activate(None), Action::Open(newer, "c:1".into())]
    );
    // That no leader is known for a moment does not bring `a` back.
    pool.hinted(idle, hint("b:1", "", 3));
    assert_eq!(plan(&mut pool, now), []);
    // `a` would come next by the order of elections, and is the one that goes.
    pool.hinted(newer, hint("c:1", "c:1", 2));
    assert_eq!(
        plan(&mut pool, now),
        [Action::Activate(Some(newer)), Action::Close(stopped)]
    );
    let links: Vec<LinkId> = pool.links.iter().map(|link| link.id).collect();
    assert_eq!(links, [idle, newer]);
}

#[tokio::test]
async fn a_former_leader_that_still_answers_stays_as_an_idle_one() {
    let now = Instant::now();
    let (mut pool, former, idle) = settled(now);
    pool.hinted(idle, hint("b:1", "c:1", 2));
    let newer = opened(&plan(&mut pool, now))[0].0;
    pool.hinted(former, hint("a:1", "c:1", 2));
    assert_eq!(plan(&mut pool, now), []);
    pool.hinted(newer, hint("c:1", "c:1", 2));
    let next = [Action::Activate(Some(newer)), Action::Close(idle)];
    assert_eq!(plan(&mut pool, now), next, "`a` would lead next");
}

#[tokio::test]
async fn a_newer_hint_that_names_nobody_or_the_same_leader_takes_no_stream_away() {
    let now = Instant::now();
    let (mut pool, active, idle) = settled(now);
    for leader in ["", "a:1", ""] {
        let term = pool.links.iter().filter_map(|link| link.hint.as_ref());
        let term = term.map(|hint| hint.term).max().unwrap() + 1;
        pool.hinted(idle, hint("b:1", leader, term));
        assert_eq!(plan(&mut pool, now), [], "{leader:?} of term {term}");
    }
    // It leads again: its own word, in its time.
    pool.hinted(active, hint("a:1", "a:1", 3));
    assert_eq!(plan(&mut pool, now), []);
    assert_eq!(pool.active(), Some(active));
}

#[tokio::test]
async fn when_the_leader_dies_the_idle_stream_leads_to_the_next() {
    let now = Instant::now();
    let (mut pool, active, idle) = settled(now);
    pool.ended(active, now, 1.0);
    let (actions, wait) = pool.plan(now, |_| 0);
    assert_eq!(actions, [Action::Activate(None)]);
    // `a` is not dialled before an election has had its time: `b` will say.
    assert_eq!(wait, Some(Duration::from_millis(1_600)));
    pool.hinted(
        idle,
        LeaderHint {
            is_leader: true,
            ..hint("b:1", "b:1", 2)
        },
    );
    assert!(plan(&mut pool, now).contains(&Action::Activate(Some(idle))));
}

#[tokio::test]
async fn a_stream_to_spare_waits_a_time_by_chance_and_one_to_the_next_leader_does_not() {
    let now = Instant::now();
    let (mut pool, active, idle) = settled(now);
    pool.ended(active, now, 1.0);
    // The leader's address is tried again after its pause; the third replica is not needed yet.
    let (actions, wait) = pool.plan(now, |most| most / 2);
    assert_eq!(actions, [Action::Activate(None)]);
    assert_eq!(wait, Some(Duration::from_millis(1_600)));
    // Chance is asked once for each stream that is missing.
    let (_, wait) = pool.plan(now, |most| most - 1);
    assert_eq!(wait, Some(Duration::from_millis(1_600)));
    pool.hinted(idle, hint("b:1", "c:1", 2));
    let (actions, _) = pool.plan(now, |most| most - 1);
    let dialled = opened(&actions);
    assert_eq!(dialled.len(), 1);
    let (leader, address) = dialled[0];
    assert_eq!(address, "c:1");
    pool.hinted(leader, hint("c:1", "c:1", 2));
    assert_eq!(plan(&mut pool, now), [Action::Activate(Some(leader))]);
    // The idle one ends: another is opened, and not at once.
    pool.ended(idle, now, 1.0);
    let (actions, wait) = pool.plan(now, |most| most / 2);
    assert_eq!((actions, wait), (vec![], Some(GIVE_WAY + SPREAD / 2)));
    let at = now + GIVE_WAY + SPREAD / 2;
    assert_eq!(opened(&plan(&mut pool, at)).len(), 1);
}

#[tokio::test]
async fn a_lost_leader_that_is_elected_again_is_dialled_at_once() {
    let now = Instant::now();
    let (mut pool, active, idle) = settled(now);
    pool.ended(active, now, 1.0);
    plan(&mut pool, now);
    pool.hinted(idle, hint("b:1", "a:1", 2));
    assert_eq!(opened(&plan(&mut pool, now))[0].1, "a:1");
}

#[tokio::test]
async fn the_idle_stream_is_at_the_replica_that_would_lead_next() {
    let now = Instant::now();
    let mut pool = Pool::new(SERVICE.into());
    let leader = opened(&plan(&mut pool, now))[0].0;
    let leads = |replicas: [&str; 3]| LeaderHint {
        replicas: replicas.map(str::to_owned).to_vec(),
        ..hint("a:1", "a:1", 1)
    };
    pool.hinted(leader, leads(["a:1", "c:1", "b:1"]));
    plan(&mut pool, now);
    // The order is the leader's, whatever chance says.
    let (actions, _) = pool.plan(now + GIVE_WAY + SPREAD, |most| most - 1);
    let (idle, address) = opened(&actions)[0];
    assert_eq!(address, "c:1");
    pool.hinted(idle, hint("c:1", "a:1", 1));
    assert_eq!(pool.plan(now, |_| 0), (vec![], None));

    // It is another one now: the stream there is kept until that one answers.
    pool.hinted(leader, leads(["a:1", "b:1", "c:1"]));
    assert_eq!(pool.plan(now, |_| 0), (vec![], Some(SPREAD)));
    let actions = plan(&mut pool, now + SPREAD);
    let (better, address) = opened(&actions)[0];
    assert_eq!((actions.len(), address), (1, "b:1"));
    assert_eq!(pool.plan(now + SPREAD, |_| 0), (vec![], None));
    pool.hinted(better, hint("b:1", "a:1", 1));
    assert_eq!(plan(&mut pool, now + SPREAD), [Action::Close(idle)]);

    // One that cannot be reached costs nothing but the dial.
    pool.hinted(leader, leads(["a:1", "c:1", "b:1"]));
    plan(&mut pool, now);
    let (vain, _) = opened(&plan(&mut pool, now + SPREAD))[0];
    pool.ended(vain, now + SPREAD, 1.0);
    assert_eq!(pool.plan(now + SPREAD, |_| 0), (vec![], Some(SPREAD)));
    assert_eq!(pool.links.len(), 2);
}

#[tokio::test]
async fn an_address_that_fails_is_tried_after_its_pause() {
    let now = Instant::now();
    let mut pool = Pool::new(SERVICE.into());
    let mut at = now;
    for _ in 0..5 {
        let actions = plan(&mut pool, at);
        let (id, address) = opened(&actions)[0];
        assert_eq!(address, SERVICE);
        pool.ended(id, at, 1.0);
        let (actions, wait) = pool.plan(at, |_| 0);
        assert_eq!(actions, []);
        at += wait.unwrap();
    }
    assert!(at - now > Duration::from_secs(3));
}

#[tokio::test]
async fn a_stream_that_answers_forgets_its_failures() {
    let now = Instant::now();
    let (mut pool, active, _) = settled(now);
    pool.ended(active, now, 1.0);
    assert_eq!(pool.failures.len(), 1);
    let later = now + Duration::from_secs(2);
    let actions = plan(&mut pool, later);
    let (id, address) = opened(&actions)[0];
    assert_eq!(address, "a:1");
    pool.hinted(id, hint("a:1", "a:1", 4));
    assert!(pool.failures.is_empty());
}

#[tokio::test]
async fn two_streams_to_one_replica_become_one() {
    let now = Instant::now();
    let mut pool = Pool::new(SERVICE.into());
    let first = opened(&plan(&mut pool, now))[0].0;
    pool.hinted(first, hint("c:1", "", 1));
    plan(&mut pool, now);
    let actions = plan(&mut pool, now + GIVE_WAY);
    let second = opened(&actions)[0];
    assert_eq!(second.1, "a:1");
    // Behind another name it was the same replica all along.
    pool.hinted(second.0, hint("c:1", "", 1));
    let actions = plan(&mut pool, now);
    assert_eq!(
        actions
            .iter()
            .filter(|action| matches!(action, Action::Close(_)))
            .count(),
        1
    );
    assert!(pool.links.len() <= 2);
}

#[tokio::test]
async fn what_is_remembered_is_bounded() {
    let now = Instant::now();
    let mut pool = Pool::new(SERVICE.into());
    let first = opened(&plan(&mut pool, now))[0].0;
    for round in 0..1_000u64 {
        let leader = format!("leader-{round}:1");
        pool.hinted(
            first,
            LeaderHint {
                replicas: vec![],
                ..hint("a:1", &leader, round)
            },
        );
        for (id, _) in opened(&plan(&mut pool, now)) {
            pool.ended(id, now, 1.0);
        }
    }
    assert!(pool.failures.len() <= MAX_REMEMBERED && pool.links.len() <= 3);
}
