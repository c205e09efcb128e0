//! Objects that the tests apply, as JSON.

use serde_json::{Value, json};

/// A Deployment or StatefulSet of the test program.
#[derive(Debug, Clone)]
pub struct Workload<'a> {
    /// Name of the object, of its pods' label `app`, and of its container.
    pub name: &'a str,
    /// `Deployment` or `StatefulSet`.
    pub kind: &'a str,
    /// Arguments of the test program.
    pub args: &'a [&'a str],
    /// Replicas to begin with.
    pub replicas: i32,
    /// CPU request of the container, or none.
    pub cpu_request: Option<&'a str>,
}

impl Workload<'_> {
    /// The object. A pod that serves is ready once it listens.
    #[must_use]
    pub fn object(&self) -> Value {
        let serves = self.args.first() == Some(&"serve");
        let mut container = json!({
            "name": self.name,
            "image": "localhost/neap-workload:test",
            "imagePullPolicy": "IfNotPresent",
            "args": self.args,
        });
        if let Some(cpu) = self.cpu_request {
            container["resources"] = json!({"requests": {"cpu": cpu}});
        }
        if serves {
            container["ports"] = json!([{"name": "http", "containerPort": 8080}]);
            // Not by TCP: the probe's connects would stand in the very queue under test.
            container["startupProbe"] = json!({
                "exec": {"command": ["/neap-workload", "listens"]},
                "periodSeconds": 1, "failureThreshold": 60, "timeoutSeconds": 10,
            });
        }
        let mut object = json!({
            "apiVersion": "apps/v1",
            "kind": self.kind,
            "metadata": {"name": self.name},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": {"app": self.name}},
                "template": {
                    "metadata": {"labels": {"app": self.name}},
                    "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
                },
            },
        });
        if self.kind == "StatefulSet" {
            object["spec"]["serviceName"] = json!(self.name);
            object["spec"]["podManagementPolicy"] = json!("Parallel");
        }
        object
    }
}

/// A Deployment that makes no pods: paused before its first rollout. Its scale is all there is.
#[must_use]
pub fn podless(name: &str, replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "paused": true,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "none", "image": "localhost/none:none"}]},
            },
        },
    })
}

/// A Service on port 80 to the pods' port 8080.
#[must_use]
pub fn service(app: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": app},
        "spec": {"selector": {"app": app}, "ports": [{"port": 80, "targetPort": 8080}]},
    })
}

/// A ScaledObject whose `spec` beside target and triggers is given.
#[must_use]
pub fn scaled_object(name: &str, kind: &str, target: &str, triggers: Value, rest: Value) -> Value {
    let mut spec = rest;
    spec["scaleTargetRef"] = json!({"kind": kind, "name": target});
    spec["triggers"] = triggers;
    json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": name}, "spec": spec})
}
