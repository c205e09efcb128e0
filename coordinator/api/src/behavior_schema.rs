//! The schema of autoscaling/v2 `HorizontalPodAutoscalerBehavior` as KEDA's resource carries it:
//! structure only; the limits of the values are the HPA's, checked by
//! [`validate`](crate::validate).

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// Kubernetes' pattern for quantities.
const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// Schema of the field `behavior`.
pub(crate) fn behavior(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "description": "Speed and stabilization of scaling up and down, as in autoscaling/v2.",
        "properties": {
            "scaleDown": rules("How replicas go down. By default all of them may go within 15 s, after a stabilization window of 300 s."),
            "scaleUp": rules("How replicas go up. By default the larger of 4 pods and 100 percent within 15 s, without a stabilization window."),
        },
    })
}

fn rules(description: &str) -> Value {
    json!({
        "type": "object",
        "description": description,
        "properties": {
            "policies": {
                "type": "array",
                "description": "Limits to the change within a period. Absent: the defaults of the direction.",
                "x-kubernetes-list-type": "atomic",
                "items": {
                    "type": "object",
                    "description": "One limit.",
                    "required": ["periodSeconds", "type", "value"],
                    "properties": {
                        "periodSeconds": integer("The period in seconds, 1 to 1800."),
                        "type": string("Pods or Percent."),
                        "value": integer("The change allowed within the period, above 0."),
                    },
                },
            },
            "selectPolicy": string("Which of the policies holds: Max (default), Min, or Disabled for no scaling in this direction."),
            "stabilizationWindowSeconds": integer("Seconds that a past recommendation counts for, 0 to 3600."),
            "tolerance": {
                "description": "Deviation of the ratio of value and target from 1 that is borne, such as 0.05; 0.1 if absent.",
                "pattern": QUANTITY,
                "x-kubernetes-int-or-string": true,
            },
        },
    })
}

fn integer(description: &str) -> Value {
    json!({ "type": "integer", "format": "int32", "description": description })
}

fn string(description: &str) -> Value {
    json!({ "type": "string", "description": description })
}
