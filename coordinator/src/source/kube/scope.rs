//! Which namespaces are watched.

use std::sync::Arc;

use kube::api::Api;
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource};

/// All namespaces, or a list of them (`watchNamespaces`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Scope {
    /// One watch over the whole cluster; needs ClusterRoles.
    #[default]
    Cluster,
    /// One watch in each of these; needs Roles there.
    Namespaces(Arc<[Arc<str>]>),
}

impl Scope {
    /// The cluster for an empty list.
    pub fn new(namespaces: &[String]) -> Self {
        if namespaces.is_empty() {
            return Self::Cluster;
        }
        let mut list: Vec<Arc<str>> = namespaces.iter().map(|name| name.as_str().into()).collect();
        list.sort();
        list.dedup();
        Self::Namespaces(list.into())
    }

    /// What each watch covers: `None` is the whole cluster.
    pub fn parts(&self) -> Vec<Option<Arc<str>>> {
        match self {
            Self::Cluster => vec![None],
            Self::Namespaces(list) => list.iter().cloned().map(Some).collect(),
        }
    }
}

/// The API of a kind in one part of the scope.
pub(super) fn api_of<K>(client: &Client, part: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match part {
        None => Api::all(client.clone()),
        Some(namespace) => Api::namespaced(client.clone(), namespace),
    }
}

/// True for namespaces that a part covers.
pub(super) fn covers(part: Option<&str>, namespace: &str) -> bool {
    part.is_none_or(|part| part == namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_one_watch_per_namespace() {
        assert_eq!(Scope::new(&[]).parts(), [None]);
        let two = Scope::new(&["b".into(), "a".into(), "b".into()]);
        assert_eq!(two.parts(), [Some("a".into()), Some("b".into())]);
        assert!(covers(None, "x") && covers(Some("x"), "x") && !covers(Some("x"), "y"));
    }
}
