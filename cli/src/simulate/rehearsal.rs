//! One object that is to be simulated: from its manifest to what the engine decides from.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use neap_api::{ScaledObject, TriggerAuthentication};
use neap_coordinator::decide::{CompileInput, References, compile};
use neap_coordinator::source::folder::manifest::{self, Document};
use neap_engine::hpa_spec::HpaSpec;
use neap_engine::hpa_validation::validate_hpa;
use neap_engine::{MetricSpec, ScalingSpec, Settings, TriggerSpec, ZeroHandling};
use neap_triggers::{CronTrigger, NodeLocal, Source, TriggerContext};
use neap_units::Timestamp;
use serde::Deserialize;

use super::args::{PaceArg, SimulateArgs};
use super::inputs::Input;
use super::{drive, stand_in};
use crate::error::CliError;
use crate::load::Load;

/// metrics-server's samples, which an HPA reads, average over about this.
const METRICS_SERVER_WINDOW: Duration = Duration::from_secs(30);
/// The HPA controller's sync period.
const HPA_SYNC: Duration = Duration::from_secs(15);
/// The column that sets replicas from outside.
pub(super) const OUTSIDE: &str = "spec.replicas";

/// An object ready to be simulated.
#[derive(Debug)]
pub(super) struct Rehearsal {
    /// `FILE: KIND/NAME` or as much of it as tells two apart.
    pub(super) label: String,
    pub(super) spec: ScalingSpec,
    /// Where each trigger of `spec` reads.
    reads: Vec<Reads>,
    pub(super) pace: drive::Pace,
    pub(super) warnings: Vec<String>,
    /// What a `prometheus` trigger asks, by trigger of `spec`.
    pub(super) queries: Vec<Option<Query>>,
}

/// Where a trigger reads.
#[derive(Debug, Clone)]
enum Reads {
    Value,
    PerPod(Duration),
    Calendar(Arc<CronTrigger>),
}

/// The question of a `prometheus` trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) address: String,
    pub(super) query: String,
    /// A missing value counts as 0.
    pub(super) gaps_are_zero: bool,
}

/// An HPA's manifest, as far as it is needed.
#[derive(Deserialize)]
struct Hpa {
    spec: HpaSpec,
}

/// Reads the object of `path` that `args` mean.
pub(super) fn read(path: &Path, args: &SimulateArgs) -> Result<Rehearsal, CliError> {
    let documents = manifest::read(path).map_err(|error| CliError::client(error.to_string()))?;
    let wanted = args.name.as_deref();
    let is_object = |document: &&Document| {
        (document.is("keda.sh", "ScaledObject")
            || document.is("autoscaling", "HorizontalPodAutoscaler"))
            && wanted.is_none_or(|name| document.head.name() == name)
    };
    let objects: Vec<&Document> = documents.iter().filter(is_object).collect();
    let file = path.display();
    let named = wanted
        .map(|name| format!(" named {name:?}"))
        .unwrap_or_default();
    let document = match objects.as_slice() {
        [one] => *one,
        [] => {
            return Err(CliError::client(format!(
                "{file}: has no ScaledObject or HorizontalPodAutoscaler{named}"
            )));
        }
        several => {
            let names: Vec<&str> = several
                .iter()
                .map(|document| document.head.name())
                .collect();
            return Err(CliError::client(format!(
                "{file}: has {} objects that could be simulated{named}; choose one with --name: {}",
                names.len(),
                names.join(", ")
            )));
        }
    };
    if document.head.kind == "ScaledObject" {
        scaled_object(document, &documents, args)
    } else {
        hpa(document, args)
    }
}

fn settings(pace: PaceArg) -> Settings {
    match pace {
        PaceArg::Events => Settings::default(),
        // Each decision is one look of the HPA controller.
        PaceArg::Rows | PaceArg::Every(_) => Settings {
            reversal_hold: Duration::ZERO,
            sync_period: Duration::ZERO,
            ..Settings::default()
        },
    }
}

fn scaled_object(
    document: &Document,
    documents: &[Document],
    args: &SimulateArgs,
) -> Result<Rehearsal, CliError> {
    let client = |error: manifest::ManifestError| CliError::client(error.to_string());
    let mut object: ScaledObject = document.parse().map_err(client)?;
    let mut authentications: Vec<TriggerAuthentication> = Vec::new();
    for document in documents
        .iter()
        .filter(|d| d.is("keda.sh", "TriggerAuthentication"))
    {
        authentications.push(document.parse().map_err(client)?);
    }
    let pace = args.pace.unwrap_or(PaceArg::Events);
    let context = TriggerContext::default();
    let several = |faults: Vec<String>| {
        CliError::Several(
            faults
                .iter()
                .map(|fault| document.fault(fault).to_string())
                .collect(),
        )
    };
    let resolved: Vec<_> = object
        .spec
        .triggers
        .iter()
        .map(|trigger| stand_in::resolve(trigger, &authentications))
        .collect();
    let replaced =
        stand_in::replace(&mut object, &resolved, &args.target, &context).map_err(several)?;
    let references = References {
        triggers: resolved,
        ..References::default()
    };
    let input = CompileInput {
        object: &object,
        target: None,
        pods: &[],
        references: &references,
        context: &context,
        created_at: Timestamp::MIN,
        settings: settings(pace),
    };
    let compiled = compile(&input).map_err(|invalid| several(invalid.faults))?;
    let mut spec = compiled.spec;
    let mut reads = Vec::new();
    let mut queries = Vec::new();
    for (at, &(trigger_at, _)) in compiled.inputs.iter().enumerate() {
        let trigger = &compiled.triggers[trigger_at];
        let stood_in = replaced
            .iter()
            .find(|replaced| replaced.index == trigger_at);
        if let Some(stood_in) = stood_in {
            spec.triggers[at].kind.clone_from(&stood_in.kind);
            spec.triggers[at].metric_name = format!("s{trigger_at}-{}", stood_in.kind);
        }
        let asks = trigger.trigger_type == "prometheus" && stood_in.is_none();
        queries.push(asks.then(|| Query {
            address: trigger.settings.text("serverAddress").to_owned(),
            query: trigger.settings.text("query").to_owned(),
            gaps_are_zero: trigger.settings.boolean("ignoreNullValues"),
        }));
        reads.push(match &trigger.source {
            Source::Timed(cron) => Reads::Calendar(cron.clone()),
            Source::Resource(resource) => Reads::PerPod(resource.window),
            Source::NodeLocal(NodeLocal::AcceptQueue(queue)) => Reads::PerPod(queue.window),
            Source::NodeLocal(NodeLocal::Pressure(pressure)) => Reads::PerPod(pressure.window),
            Source::Polled(_) | Source::Spool(_) | Source::Workload(_) => Reads::Value,
        });
    }
    // The names of the target stand in messages only.
    let kind = object.spec.scale_target_ref.group_version_kind();
    spec.target_kind = format!("{}/{}.{}", kind.group, kind.version, kind.kind);
    spec.target_name
        .clone_from(&object.spec.scale_target_ref.name);
    spec.namespace = document.head.namespace().unwrap_or("default").to_owned();
    check_requests(&spec, args)
        .map_err(|fault| CliError::client(document.fault(fault).to_string()))?;
    Ok(Rehearsal {
        label: label(document),
        pace: pace.pace(compiled.polling_interval),
        warnings: compiled.warnings,
        spec,
        reads,
        queries,
    })
}

fn hpa(document: &Document, args: &SimulateArgs) -> Result<Rehearsal, CliError> {
    let hpa: Hpa = document
        .parse()
        .map_err(|error| CliError::client(error.to_string()))?;
    let pace = args.pace.unwrap_or(PaceArg::Every(HPA_SYNC));
    let spec = hpa.spec.with_defaults();
    let faults = validate_hpa(&spec, false);
    if !faults.is_empty() {
        return Err(CliError::Several(
            faults
                .iter()
                .map(|fault| document.fault(fault.to_string()).to_string())
                .collect(),
        ));
    }
    let namespace = document.head.namespace().unwrap_or("default");
    let spec = spec.to_scaling_spec(namespace, ZeroHandling::Disabled, settings(pace));
    check_requests(&spec, args)
        .map_err(|fault| CliError::client(document.fault(fault).to_string()))?;
    let reads = spec.triggers.iter().map(|trigger| match trigger.metric {
        MetricSpec::Resource { .. } | MetricSpec::Pods { .. } => {
            Reads::PerPod(METRICS_SERVER_WINDOW)
        }
        MetricSpec::Object { .. } | MetricSpec::External { .. } => Reads::Value,
    });
    Ok(Rehearsal {
        label: label(document),
        pace: pace.pace(HPA_SYNC),
        warnings: Vec::new(),
        reads: reads.collect(),
        queries: vec![None; spec.triggers.len()],
        spec,
    })
}

fn label(document: &Document) -> String {
    let file = Path::new(&document.file).file_name();
    let file = file.map_or(document.file.clone(), |name| {
        name.to_string_lossy().into_owned()
    });
    format!("{} ({file})", document.head.name())
}

/// A utilization is a share of requests: without them nothing can be computed.
fn check_requests(spec: &ScalingSpec, args: &SimulateArgs) -> Result<(), String> {
    use neap_engine::ResourceTarget::Utilization;
    for trigger in &spec.triggers {
        if let MetricSpec::Resource {
            resource,
            target: Utilization(_),
            ..
        } = &trigger.metric
            && args.pods.requests.of(*resource).is_none()
        {
            let name = resource.name();
            return Err(format!(
                "trigger {name}: its target is a utilization, a share of the pods' requests: say what a pod requests, as in --pods {name}=500m"
            ));
        }
    }
    Ok(())
}

impl Rehearsal {
    /// Which column of `load` each trigger reads; `None` for a calendar.
    ///
    /// # Errors
    /// A text for the first trigger that has no column.
    pub(super) fn columns(&self, load: &Load) -> Result<Vec<Option<usize>>, String> {
        let columns: Vec<usize> = (0..load.columns.len())
            .filter(|at| load.columns[*at].name != OUTSIDE)
            .collect();
        let reading: Vec<usize> = (0..self.reads.len())
            .filter(|at| !matches!(self.reads[*at], Reads::Calendar(_)))
            .collect();
        if let (&[column], &[trigger]) = (columns.as_slice(), reading.as_slice()) {
            let mut found = vec![None; self.reads.len()];
            found[trigger] = Some(column);
            return Ok(found);
        }
        let mut found = vec![None; self.reads.len()];
        for at in reading {
            let names = self.names(at);
            let column = columns
                .iter()
                .find(|column| names.contains(&load.columns[**column].name));
            let Some(column) = column else {
                let there: Vec<&str> = columns
                    .iter()
                    .map(|c| load.columns[*c].name.as_str())
                    .collect();
                return Err(format!(
                    "{}: no column of the load belongs to trigger {}: it must be named one of {}; the columns are {}",
                    self.label,
                    names[0],
                    names.join(", "),
                    there.join(", ")
                ));
            };
            found[at] = Some(*column);
        }
        Ok(found)
    }

    /// The names that a column for trigger `at` may have, the clearest first.
    pub(super) fn names(&self, at: usize) -> Vec<String> {
        let trigger = &self.spec.triggers[at];
        let mut names: Vec<String> = trigger.name.clone().into_iter().collect();
        names.push(trigger.metric_name.clone());
        let same = |other: &&TriggerSpec| other.kind == trigger.kind;
        if self.spec.triggers.iter().filter(same).count() == 1 && !names.contains(&trigger.kind) {
            names.push(trigger.kind.clone());
        }
        names
    }

    /// Whether trigger `at` reads the load and not the calendar.
    pub(super) fn reads_load(&self, at: usize) -> bool {
        !matches!(self.reads[at], Reads::Calendar(_))
    }

    /// The inputs of the triggers, of which each reads its column of `columns`.
    pub(super) fn inputs<'a>(&self, load: &'a Load, columns: &[Option<usize>]) -> Vec<Input<'a>> {
        let inputs = self
            .reads
            .iter()
            .zip(columns)
            .filter_map(|(reads, column)| {
                let series = column.map(|column| &load.columns[column].series);
                Some(match reads {
                    Reads::Calendar(cron) => Input::Calendar(cron.clone()),
                    Reads::Value => Input::Value(series?),
                    Reads::PerPod(window) => Input::PerPod {
                        total: series?,
                        window: *window,
                    },
                })
            });
        inputs.collect()
    }
}
