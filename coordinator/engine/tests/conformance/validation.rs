//! Specs of HorizontalPodAutoscalers: defaults, and accepted or refused.

use neap_engine::hpa_spec::HpaSpec;
use neap_engine::hpa_validation::validate_hpa;
use serde::Deserialize;

use super::report::Report;
use super::vectors::VectorFile;

#[derive(Deserialize)]
struct Case {
    id: String,
    gate_hpa_scale_to_zero: bool,
    spec: HpaSpec,
    spec_defaulted: HpaSpec,
    valid: bool,
    #[serde(default)]
    errors: Vec<ExpectedError>,
}

#[derive(Deserialize)]
struct ExpectedError {
    field: String,
    r#type: String,
}

pub(crate) fn run(file: &VectorFile, report: &mut Report) {
    for case in file.cases::<Case>() {
        let completed = case.spec.with_defaults();
        let mut found: Vec<_> = validate_hpa(&completed, case.gate_hpa_scale_to_zero)
            .into_iter()
            .map(|error| (error.field, error.kind.name().to_owned()))
            .collect();
        found.sort();
        let mut expected: Vec<_> = case
            .errors
            .into_iter()
            .map(|error| (error.field, error.r#type))
            .collect();
        expected.sort();
        if completed != case.spec_defaulted {
            let (here, upstream) = (
                format!("{completed:?}"),
                format!("{:?}", case.spec_defaulted),
            );
            report.differ(&format!("{} defaults", case.id), &here, &upstream);
        } else if found != expected || found.is_empty() != case.valid {
            report.differ(&case.id, &format!("{found:?}"), &format!("{expected:?}"));
        } else {
            report.pass();
        }
    }
}
