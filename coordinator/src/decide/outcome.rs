//! What became of writes, and what is done about rivals, leftovers and deletion.

use std::time::Duration;

use kube::ResourceExt;
use neap_engine::EventKind;

use super::decider::{Decider, Done, WriteDone};
use super::target::{ScaleView, Target, Unanswered};
use super::tick::report;
use crate::clock::Boottime;
use crate::keys::TargetKey;
use crate::publish::{EventNote, EventSeverity, Verdict};
use crate::scaler::{Scale, ScaleError, Written};
use crate::world::{Owner, is_older_version};

/// Clearing the way (an old HPA, a finalizer) is tried again after this time.
const CLEAR_AGAIN: Duration = Duration::from_secs(5);

impl Decider {
    pub(super) fn on_written(&mut self, done: WriteDone) {
        let now = self.parts.clock.boottime();
        self.parts.metrics.written(&done.result, done.took);
        // What an earlier leadership decided is not this one's: another leader may have decided since, and
        // each leadership begins with what is committed and with the scale as it is.
        let Some(leading) = self.leading.filter(|leading| leading.id == done.leader) else {
            return;
        };
        // An object that was made anew meanwhile has nothing to do with it.
        let target = self.targets.get_mut(&done.key);
        let Some(target) =
            target.filter(|target| target.object.uid().unwrap_or_default() == done.uid)
        else {
            return;
        };
        target.contest.answered();
        match fate(&done) {
            Fate::Done(written) => {
                target.unanswered = None;
                target.pace.done(done.sent + done.took);
                target.contest.wrote(written.replicas);
                // The watch may have told of something newer meanwhile.
                if let Some(scale) = target.scale.as_mut().filter(|scale| {
                    !is_older_version(&written.resource_version, &scale.resource_version)
                }) {
                    scale.replicas = written.replicas;
                    scale.resource_version = written.resource_version.as_str().into();
                }
                for event in &done.evaluation.events {
                    let note = note(target, &done.uid, event);
                    self.parts.desk.event(note);
                }
                self.note_unsaved(&done.key, leading.time.at(now));
                self.touch(&done.key);
            }
            Fate::Failed(error) => {
                let refused = done.evaluation.refuse(&error.to_string());
                // Without an answer too: the changes that count and the replicas that are seen must agree. If it was
                // done after all, the next write, which names the version that is seen, cannot be, and once the
                // replicas are seen the change counts.
                target.state = refused.state;
                let in_doubt = is_unanswered(&error);
                if let Some(replicas) = done.evaluation.write.filter(|_| in_doubt) {
                    target.unanswered = Some(Unanswered {
                        replicas,
                        state: done.evaluation.state.clone(),
                    });
                }
                if let Some(fresh) = done.fresh {
                    read_anew(target, fresh, now);
                }
                let again = match &error {
                    ScaleError::Conflict => {
                        tracing::debug!(target = %done.key, "the target changed before the write; deciding again");
                        target.pace.conflict(now);
                        now
                    }
                    ScaleError::Throttled { retry_after } => {
                        target.pace.failed(now, Some(*retry_after))
                    }
                    _ => {
                        tracing::warn!(target = %done.key, %error, "the target could not be scaled");
                        target.pace.failed(now, None)
                    }
                };
                target.count_unanswered();
                if !matches!(error, ScaleError::Conflict) {
                    for event in &refused.events {
                        let note = note(target, &done.uid, event);
                        self.parts.desk.event(note);
                    }
                    let verdict = Verdict::Evaluated {
                        evaluation: done.evaluation.clone(),
                        conditions: refused.conditions,
                        contested: None,
                        without_agent: 0,
                    };
                    self.parts
                        .desk
                        .report(report(target, verdict, &leading, now));
                }
                // What is in doubt the log goes on holding, for a leader that comes before it is known.
                if !in_doubt {
                    self.unsaved.insert(done.key.clone());
                }
                self.due.no_later_than(&done.key, again);
            }
        }
    }

    /// Names whoever keeps resetting the replicas, once for each contest. The watch knows the name: a
    /// conflict that shows the reset first is followed by what the watch tells of it.
    pub(super) fn name_rival(&mut self, key: &TargetKey, now: Boottime) {
        let Some(target) = self.targets.get_mut(key) else {
            return;
        };
        if self.leading.is_none() || !target.contest.is_news(now) {
            return;
        }
        let name = target.rival();
        let note = EventNote {
            regarding: key.clone(),
            uid: target.object.uid().unwrap_or_default(),
            severity: EventSeverity::Warning,
            reason: "TargetContested".to_owned(),
            note: format!(
                "spec.replicas of {} was reset three times within ten minutes by {name}; it is written at most once per 15 s until that ends. Remove replicas from what {name} applies",
                target.reference
            ),
        };
        tracing::warn!(target = %key, manager = name, "someone else keeps resetting the replicas");
        let ends = target.contest.ends();
        self.parts.desk.event(note);
        self.touch(key);
        // The condition ends with the contest.
        if let Some(ends) = ends {
            self.due.no_later_than(key, ends.max(now));
        }
    }

    /// Deals with what has to go before the target can be decided on: a deletion, or the HPA that
    /// KEDA left behind. Returns true when there is nothing to evaluate.
    pub(super) fn clear_the_way(&mut self, key: &TargetKey, now: Boottime) -> bool {
        let Some(target) = self.targets.get_mut(key) else {
            return true;
        };
        let deleting = target.is_deleting();
        if deleting && (!target.has_finalizer() || matches!(target.owner, Owner::Keda(_))) {
            return true;
        }
        let hpa = match &target.owner {
            Owner::NeapAfterRemoving(hpa) => Some(hpa.clone()),
            _ => None,
        };
        if !deleting && hpa.is_none() {
            return false;
        }
        if let Some(until) = target.clearing.filter(|until| *until > now) {
            self.due.no_later_than(key, until);
            return deleting;
        }
        let (desk, scaler, done) = (
            self.parts.desk.clone(),
            self.parts.scaler.clone(),
            self.done.clone(),
        );
        let (key, reference) = (key.clone(), target.reference.clone());
        target.clearing = Some(now + CLEAR_AGAIN);
        self.due.no_later_than(&key, now + CLEAR_AGAIN);
        if deleting {
            let restore = target
                .object
                .spec
                .restore_to_original_replica_count()
                .then(|| target.state.original_replicas())
                .flatten()
                .filter(|_| target.owner.is_neap());
            let Some(lease) = self.parts.consensus.lease() else {
                return true;
            };
            let (turns, leader) = (self.turns.clone(), lease.leader());
            self.tasks.spawn(async move {
                let mut result = Ok(());
                if let Some(replicas) = restore {
                    result = match scaler.read(&reference).await {
                        Ok(scale) if scale.replicas == replicas => Ok(()),
                        Ok(scale) => {
                            let version = &scale.resource_version;
                            let (_, written) =
                                turns.write(&reference, replicas, version, leader).await;
                            written.map(drop)
                        }
                        Err(error) => Err(error),
                    };
                    // What is gone needs no restoring.
                    if matches!(
                        result,
                        Err(ScaleError::NotFound | ScaleError::NoScaleSubresource { .. })
                    ) {
                        result = Ok(());
                    }
                }
                let result = match result {
                    Ok(()) => desk
                        .publisher()
                        .remove_finalizer(&key)
                        .await
                        .map_err(|error| error.to_string()),
                    Err(error) => Err(error.to_string()),
                };
                let _ = done
                    .send(Done::Cleared {
                        key,
                        what: "finalizer.keda.sh",
                        result,
                    })
                    .await;
            });
            return true;
        }
        if let Some(hpa) = hpa {
            self.tasks.spawn(async move {
                let removed = desk.publisher().remove_hpa(&key.namespace, &hpa).await;
                let result = removed.map_err(|error| error.to_string());
                let _ = done
                    .send(Done::Cleared {
                        key,
                        what: "the HPA that KEDA left behind",
                        result,
                    })
                    .await;
            });
        }
        false
    }

    pub(super) fn on_cleared(
        &mut self,
        key: &TargetKey,
        what: &'static str,
        result: Result<(), String>,
    ) {
        let now = self.parts.clock.boottime();
        let Some(target) = self.targets.get_mut(key) else {
            return;
        };
        match result {
            Ok(()) => {
                tracing::info!(target = %key, what, "removed");
                target.leftover = None;
            }
            Err(error) => {
                if target.leftover.as_ref() != Some(&error) {
                    tracing::warn!(target = %key, what, %error, "could not be removed; trying again");
                    self.due.no_later_than(key, now);
                }
                target.leftover = Some(error);
            }
        }
    }
}

/// What became of a write, as far as it is known.
enum Fate {
    /// It was done.
    Done(Written),
    /// It was not done, or it is not known whether.
    Failed(ScaleError),
}

/// Whether a request that failed so may have been carried out all the same.
fn is_unanswered(error: &ScaleError) -> bool {
    matches!(error, ScaleError::Timeout | ScaleError::Unreachable(_))
}

/// What is to be believed of a write. To one without an answer, what was read after it is the answer.
fn fate(done: &WriteDone) -> Fate {
    let wrote = done.evaluation.write;
    match (&done.result, &done.fresh) {
        (Ok(written), _) => Fate::Done(written.clone()),
        (Err(error), Some(fresh)) if is_unanswered(error) && wrote == Some(fresh.replicas) => {
            Fate::Done(Written {
                replicas: fresh.replicas,
                resource_version: fresh.resource_version.clone(),
            })
        }
        (Err(error), _) => Fate::Failed(error.clone()),
    }
}

/// Takes in the scale as it was read after a write that failed, or whose fate is not known.
fn read_anew(target: &mut Target, fresh: Scale, now: Boottime) {
    let Some(scale) = &mut target.scale else {
        return;
    };
    // The watch may have told of something newer meanwhile.
    if is_older_version(&fresh.resource_version, &scale.resource_version) {
        return;
    }
    let changed = scale.replicas != fresh.replicas;
    *scale = ScaleView {
        replicas: fresh.replicas,
        status_replicas: fresh.status_replicas,
        resource_version: fresh.resource_version.as_str().into(),
    };
    // It may be an earlier write, to which no answer came.
    if changed && !target.count_unanswered() {
        target.contest.changed_outside(fresh.replicas, now);
    }
}

fn note(target: &Target, uid: &str, event: &neap_engine::Event) -> EventNote {
    EventNote {
        regarding: target.key.clone(),
        uid: uid.to_owned(),
        severity: match event.kind {
            EventKind::Normal => EventSeverity::Normal,
            EventKind::Warning => EventSeverity::Warning,
        },
        reason: event.reason.to_string(),
        note: event.message.clone(),
    }
}
