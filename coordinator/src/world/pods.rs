//! Pods by UID, by namespace, and by the selectors that ask for them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use neap_units::PodUid;

use super::labels::Labels;
use super::pod::PodFacts;
use super::selector::Selector;

/// Keeps pods and, for every registered selector, the set of pods it selects. `G` names a
/// selector's owner. Work per pod event grows with the selectors that could match the pod, not
/// with all of them; reading a group costs its members.
#[derive(Debug)]
pub(super) struct PodIndex<G> {
    namespaces: HashMap<Arc<str>, NamespacePods<G>>,
    by_uid: HashMap<PodUid, Arc<PodFacts>>,
    by_cgroup_uid: HashMap<PodUid, Arc<PodFacts>>,
    groups: HashMap<G, Group>,
}

#[derive(Debug)]
struct Group {
    namespace: Arc<str>,
    selector: Selector,
    members: BTreeSet<PodUid>,
    /// Made on the first read after a change.
    list: Option<Arc<[Arc<PodFacts>]>>,
}

#[derive(Debug)]
struct NamespacePods<G> {
    pods: HashMap<Box<str>, Arc<PodFacts>>,
    by_pair: HashMap<Arc<str>, HashMap<Arc<str>, HashSet<PodUid>>>,
    groups_by_pair: HashMap<(Arc<str>, Arc<str>), Vec<G>>,
    /// Groups whose selector has no `key=value` part.
    other_groups: Vec<G>,
}

impl<G> Default for NamespacePods<G> {
    fn default() -> Self {
        Self {
            pods: HashMap::new(),
            by_pair: HashMap::new(),
            groups_by_pair: HashMap::new(),
            other_groups: Vec::new(),
        }
    }
}

impl<G> Default for PodIndex<G> {
    fn default() -> Self {
        Self {
            namespaces: HashMap::new(),
            by_uid: HashMap::new(),
            by_cgroup_uid: HashMap::new(),
            groups: HashMap::new(),
        }
    }
}

impl<G: Clone + Eq + std::hash::Hash> PodIndex<G> {
    /// Adds or replaces a pod. Returns the groups that hold it now or held it before; empty when
    /// nothing of it changed.
    pub(super) fn apply(&mut self, pod: Arc<PodFacts>) -> Vec<G> {
        let former = self
            .namespaces
            .get(&pod.namespace)
            .and_then(|known| known.pods.get(&pod.name))
            .cloned();
        if former.as_deref() == Some(pod.as_ref()) {
            return Vec::new();
        }
        let mut touched = Vec::new();
        let same_labels = former
            .as_ref()
            .is_some_and(|former| former.uid == pod.uid && former.labels == pod.labels);
        if same_labels {
            touched = self.groups_of(&pod.namespace, &pod.labels);
            for group in &touched {
                if let Some(group) = self.groups.get_mut(group) {
                    group.list = None;
                }
            }
            if let Some(former) = &former
                && former.cgroup_uid != pod.cgroup_uid
            {
                self.by_cgroup_uid.remove(&former.cgroup_uid);
            }
        } else {
            if let Some(former) = former {
                touched = self.remove(&former.namespace, &former.name);
            }
            for group in self.join(&pod) {
                if !touched.contains(&group) {
                    touched.push(group);
                }
            }
        }
        self.by_uid.insert(pod.uid.clone(), pod.clone());
        self.by_cgroup_uid
            .insert(pod.cgroup_uid.clone(), pod.clone());
        if let Some(known) = self.namespaces.get_mut(&pod.namespace) {
            known.pods.insert(pod.name.clone(), pod);
        }
        touched
    }

    /// Enters a pod into the pairs and groups of its namespace.
    fn join(&mut self, pod: &Arc<PodFacts>) -> Vec<G> {
        let known = self.namespaces.entry(pod.namespace.clone()).or_default();
        for (key, value) in pod.labels.iter() {
            known
                .by_pair
                .entry(key.clone())
                .or_default()
                .entry(value.clone())
                .or_default()
                .insert(pod.uid.clone());
        }
        // The name is entered here already, so that the namespace is not dropped as empty.
        known.pods.insert(pod.name.clone(), pod.clone());
        let joined = self.groups_of(&pod.namespace, &pod.labels);
        for group in &joined {
            if let Some(group) = self.groups.get_mut(group) {
                group.members.insert(pod.uid.clone());
                group.list = None;
            }
        }
        joined
    }

    /// Removes a pod. Returns the groups that held it.
    pub(super) fn remove(&mut self, namespace: &str, name: &str) -> Vec<G> {
        let Some(known) = self.namespaces.get_mut(namespace) else {
            return Vec::new();
        };
        let Some(pod) = known.pods.remove(name) else {
            return Vec::new();
        };
        for (key, value) in pod.labels.iter() {
            let Some(values) = known.by_pair.get_mut(key) else {
                continue;
            };
            if let Some(uids) = values.get_mut(value) {
                uids.remove(&pod.uid);
                if uids.is_empty() {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                known.by_pair.remove(key);
            }
        }
        self.by_uid.remove(&pod.uid);
        if self
            .by_cgroup_uid
            .get(&pod.cgroup_uid)
            .is_some_and(|held| held.uid == pod.uid)
        {
            self.by_cgroup_uid.remove(&pod.cgroup_uid);
        }
        let left = self.groups_of(namespace, &pod.labels);
        for group in &left {
            if let Some(group) = self.groups.get_mut(group) {
                group.members.remove(&pod.uid);
                group.list = None;
            }
        }
        self.drop_if_empty(namespace);
        left
    }

    fn drop_if_empty(&mut self, namespace: &str) {
        let empty = self.namespaces.get(namespace).is_some_and(|known| {
            known.pods.is_empty()
                && known.groups_by_pair.is_empty()
                && known.other_groups.is_empty()
        });
        if empty {
            self.namespaces.remove(namespace);
        }
    }

    fn groups_of(&self, namespace: &str, labels: &Labels) -> Vec<G> {
        let Some(known) = self.namespaces.get(namespace) else {
            return Vec::new();
        };
        let by_pair = labels
            .iter()
            .filter_map(|(key, value)| known.groups_by_pair.get(&(key.clone(), value.clone())))
            .flatten();
        by_pair
            .chain(&known.other_groups)
            .filter(|group| {
                self.groups
                    .get(*group)
                    .is_some_and(|group| group.selector.matches(labels))
            })
            .cloned()
            .collect()
    }

    /// Registers a selector, replacing what `group` had before. True when its members may differ
    /// from before.
    pub(super) fn set_group(&mut self, group: G, namespace: Arc<str>, selector: Selector) -> bool {
        if let Some(known) = self.groups.get(&group) {
            if known.namespace == namespace && known.selector == selector {
                return false;
            }
            self.remove_group(&group);
        }
        let members = self
            .select(&namespace, &selector)
            .into_iter()
            .map(|pod| pod.uid.clone())
            .collect();
        let known = self.namespaces.entry(namespace.clone()).or_default();
        match selector.required_pair() {
            Some((key, value)) => {
                known
                    .groups_by_pair
                    .entry((key.clone(), value.clone()))
                    .or_default()
                    .push(group.clone());
            }
            None => known.other_groups.push(group.clone()),
        }
        self.groups.insert(
            group,
            Group {
                namespace,
                selector,
                members,
                list: None,
            },
        );
        true
    }

    /// Forgets a selector.
    pub(super) fn remove_group(&mut self, group: &G) {
        let Some(removed) = self.groups.remove(group) else {
            return;
        };
        if let Some(known) = self.namespaces.get_mut(&removed.namespace) {
            match removed.selector.required_pair() {
                Some((key, value)) => {
                    let pair = (key.clone(), value.clone());
                    if let Some(groups) = known.groups_by_pair.get_mut(&pair) {
                        groups.retain(|held| held != group);
                        if groups.is_empty() {
                            known.groups_by_pair.remove(&pair);
                        }
                    }
                }
                None => known.other_groups.retain(|held| held != group),
            }
        }
        self.drop_if_empty(&removed.namespace);
    }

    /// True when a selector is registered for `group`.
    pub(super) fn has_group(&self, group: &G) -> bool {
        self.groups.contains_key(group)
    }

    /// The pods of a registered selector, in the order of their UIDs.
    pub(super) fn members(&mut self, group: &G) -> Arc<[Arc<PodFacts>]> {
        let Some(group) = self.groups.get_mut(group) else {
            return Arc::from([]);
        };
        let by_uid = &self.by_uid;
        group
            .list
            .get_or_insert_with(|| {
                group
                    .members
                    .iter()
                    .filter_map(|uid| by_uid.get(uid).cloned())
                    .collect()
            })
            .clone()
    }

    /// The pods of `namespace` that `selector` selects, in no order.
    pub(super) fn select(&self, namespace: &str, selector: &Selector) -> Vec<Arc<PodFacts>> {
        let Some(known) = self.namespaces.get(namespace) else {
            return Vec::new();
        };
        match selector.required_pair() {
            Some((key, value)) => known
                .by_pair
                .get(key)
                .and_then(|values| values.get(value))
                .into_iter()
                .flatten()
                .filter_map(|uid| self.by_uid.get(uid))
                .filter(|pod| selector.matches(&pod.labels))
                .cloned()
                .collect(),
            None => known
                .pods
                .values()
                .filter(|pod| selector.matches(&pod.labels))
                .cloned()
                .collect(),
        }
    }

    /// The pod with this UID of its object.
    pub(super) fn by_uid(&self, uid: &PodUid) -> Option<&Arc<PodFacts>> {
        self.by_uid.get(uid)
    }

    /// The pod with this UID in its cgroups.
    pub(super) fn by_cgroup_uid(&self, uid: &PodUid) -> Option<&Arc<PodFacts>> {
        self.by_cgroup_uid.get(uid)
    }

    /// All pods, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<PodFacts>> {
        self.by_uid.values()
    }

    /// How many pods are held.
    pub(super) fn len(&self) -> usize {
        self.by_uid.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::testing::pod;

    fn names(pods: &[Arc<PodFacts>]) -> Vec<String> {
        let mut names: Vec<String> = pods.iter().map(|pod| pod.name.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn groups_follow_pods_and_selectors() {
        let mut index = PodIndex::<&str>::default();
        assert!(index.set_group("shop", "a".into(), "app=shop,tier!=db".parse().unwrap()));
        assert!(
            !index.set_group("shop", "a".into(), "app=shop,tier!=db".parse().unwrap()),
            "nothing changed"
        );
        index.set_group("all", "a".into(), "tier".parse().unwrap());

        assert_eq!(
            index.apply(pod("a", "web-1").label("app", "shop").done()),
            ["shop"]
        );
        assert_eq!(
            index.apply(
                pod("a", "web-2")
                    .label("app", "shop")
                    .label("tier", "web")
                    .done()
            ),
            ["shop", "all"]
        );
        assert!(
            index
                .apply(pod("b", "web-3").label("app", "shop").done())
                .is_empty(),
            "another namespace"
        );
        assert_eq!(names(&index.members(&"shop")), ["web-1", "web-2"]);

        assert!(
            index
                .apply(pod("a", "web-1").label("app", "shop").done())
                .is_empty(),
            "the same again"
        );
        let relabelled = pod("a", "web-2")
            .label("app", "shop")
            .label("tier", "db")
            .done();
        assert_eq!(index.apply(relabelled), ["shop", "all"]);
        assert_eq!(names(&index.members(&"shop")), ["web-1"]);
        assert_eq!(names(&index.members(&"all")), ["web-2"]);

        index.set_group("shop", "a".into(), "tier=db".parse().unwrap());
        assert_eq!(names(&index.members(&"shop")), ["web-2"]);
        assert_eq!(index.remove("a", "web-2"), ["shop", "all"]);
        assert!(index.members(&"shop").is_empty());
    }

    #[test]
    fn a_pod_of_the_same_name_and_another_uid_replaces_the_first() {
        let mut index = PodIndex::<&str>::default();
        index.set_group("db", "a".into(), "app=db".parse().unwrap());
        let first = pod("a", "db-0").uid("first").label("app", "db").done();
        let second = pod("a", "db-0").uid("second").label("app", "db").done();
        index.apply(first.clone());
        assert_eq!(index.apply(second.clone()), ["db"]);
        assert!(index.by_uid(&first.uid).is_none());
        assert_eq!(index.members(&"db").len(), 1);
        assert_eq!(index.len(), 1);
        assert_eq!(
            index.by_cgroup_uid(&second.uid).map(|pod| &pod.uid),
            Some(&second.uid)
        );
    }

    #[test]
    fn nothing_is_left_of_what_is_gone() {
        let mut index = PodIndex::<u32>::default();
        for n in 0..100_u32 {
            index.set_group(n, format!("ns{n}").into(), "app=x".parse().unwrap());
            index.apply(
                pod(&format!("ns{n}"), "p")
                    .uid(&format!("u{n}"))
                    .label("app", "x")
                    .done(),
            );
        }
        for n in 0..100_u32 {
            assert_eq!(index.remove(&format!("ns{n}"), "p"), [n]);
            index.remove_group(&n);
        }
        assert!(index.namespaces.is_empty());
        assert!(index.groups.is_empty());
        assert_eq!(index.len(), 0);
        assert!(index.by_cgroup_uid.is_empty());
    }

    #[test]
    fn a_change_of_state_alone_keeps_membership_and_shows_the_new_facts() {
        let mut index = PodIndex::<&str>::default();
        index.set_group("g", "a".into(), "app=x".parse().unwrap());
        index.apply(pod("a", "p").label("app", "x").done());
        assert!(!index.members(&"g").iter().any(|pod| pod.deleting));
        let deleting = pod("a", "p").label("app", "x").deleting().done();
        assert_eq!(index.apply(deleting), ["g"]);
        assert!(index.members(&"g").iter().all(|pod| pod.deleting));
    }
}
