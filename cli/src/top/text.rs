//! The tables of `neap top`, in the units of `kubectl top`.

use super::answer::{NodeRow, PodRow, Queue, Stalls};
use crate::table::Table;

const UNKNOWN: &str = "<unknown>";

/// What a table shows beyond the rows themselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    pub(super) header: bool,
    pub(super) namespace: bool,
    pub(super) wide: bool,
}

/// The pods.
pub(super) fn pods(rows: &[PodRow], columns: Columns) -> Table {
    let mut table = Table::new();
    if columns.header {
        let mut names = vec!["NAME", "CPU(cores)", "MEMORY(bytes)", "PRESSURE", "QUEUE"];
        if columns.namespace {
            names.insert(0, "NAMESPACE");
        }
        if columns.wide {
            names.extend(["PSI-CPU", "PSI-MEMORY", "PSI-IO", "QUEUES", "NODE"]);
        }
        table.row(names);
    }
    for pod in rows {
        let mut row = vec![
            pod.name.clone(),
            cores(pod.cpu_cores),
            mebibytes(pod.memory_bytes),
            worst(&pod.pressure),
            count(pod.queue),
        ];
        if columns.namespace {
            row.insert(0, pod.namespace.clone());
        }
        if columns.wide {
            row.extend(each(&pod.pressure));
            row.push(queues(&pod.queues));
            row.push(pod.node.clone());
        }
        table.row(row);
    }
    table
}

/// The nodes.
pub(super) fn nodes(rows: &[NodeRow], columns: Columns) -> Table {
    let mut table = Table::new();
    if columns.header {
        let mut names = vec![
            "NAME",
            "CPU(cores)",
            "MEMORY(bytes)",
            "LOAD",
            "PRESSURE",
            "QUEUE",
        ];
        if columns.wide {
            names.extend(["PSI-CPU", "PSI-MEMORY", "PSI-IO", "PODS", "AGENT"]);
        }
        table.row(names);
    }
    for node in rows {
        let load = node.load.map(|load| format!("{load:.2}"));
        let mut row = vec![
            node.name.clone(),
            cores(node.cpu_cores),
            mebibytes(node.memory_bytes),
            load.unwrap_or_else(|| UNKNOWN.to_owned()),
            worst(&node.pressure),
            count(node.queue),
        ];
        if columns.wide {
            row.extend(each(&node.pressure));
            row.push(count(node.pods));
            row.push(if node.heard { "heard" } else { "silent" }.to_owned());
        }
        table.row(row);
    }
    table
}

/// As `kubectl top` prints it: whole thousandths of a core.
fn cores(cores: Option<f64>) -> String {
    cores.map_or_else(
        || UNKNOWN.to_owned(),
        |cores| format!("{:.0}m", cores * 1e3),
    )
}

/// As `kubectl top` prints it: whole mebibytes; below one, kibibytes, for little is not nothing.
fn mebibytes(bytes: Option<f64>) -> String {
    const KI: f64 = 1024.0;
    bytes.map_or_else(
        || UNKNOWN.to_owned(),
        |bytes| match (bytes / KI).floor() {
            kibibytes if kibibytes > 0.0 && kibibytes < KI => format!("{kibibytes:.0}Ki"),
            kibibytes => format!("{:.0}Mi", (kibibytes / KI).floor()),
        },
    )
}

fn count(count: Option<u64>) -> String {
    count.map_or_else(|| UNKNOWN.to_owned(), |count| count.to_string())
}

fn percent(percent: Option<f64>) -> String {
    percent.map_or_else(|| UNKNOWN.to_owned(), |percent| format!("{percent:.1}%"))
}

/// The resource that was waited for most, of those that are known.
fn worst(stalls: &Stalls) -> String {
    let named = [
        (stalls.cpu, "cpu"),
        (stalls.memory, "memory"),
        (stalls.io, "io"),
    ];
    let known = named
        .iter()
        .filter_map(|(share, name)| Some(((*share)?, *name)));
    match known.max_by(|a, b| a.0.total_cmp(&b.0)) {
        None => UNKNOWN.to_owned(),
        // What rounds to nothing is of no resource.
        Some((share, _)) if share < 0.05 => "0.0%".to_owned(),
        Some((share, name)) => format!("{share:.1}% {name}"),
    }
}

fn each(stalls: &Stalls) -> [String; 3] {
    [stalls.cpu, stalls.memory, stalls.io].map(percent)
}

/// `8080:3/128`: 3 of at most 128 wait at port 8080.
fn queues(queues: &[Queue]) -> String {
    if queues.is_empty() {
        return "<none>".to_owned();
    }
    let one = |queue: &Queue| match queue.limit {
        Some(limit) => format!("{}:{}/{limit}", queue.at, queue.waiting),
        None => format!("{}:{}", queue.at, queue.waiting),
    };
    queues.iter().map(one).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(table: &Table) -> String {
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn busy() -> PodRow {
        PodRow {
            namespace: "shop".to_owned(),
            name: "web-1".to_owned(),
            node: "n1".to_owned(),
            cpu_cores: Some(0.2504),
            memory_bytes: Some(44_556_288.0),
            pressure: Stalls {
                cpu: Some(3.12),
                memory: Some(12.5),
                io: None,
            },
            queue: Some(5),
            queues: vec![
                Queue {
                    at: "8080".to_owned(),
                    waiting: 3,
                    limit: Some(128),
                },
                Queue {
                    at: "/run/app.sock".to_owned(),
                    waiting: 2,
                    limit: None,
                },
            ],
        }
    }

    #[test]
    fn pods_are_in_kubectls_units_and_nothing_is_invented() {
        let quiet = PodRow {
            namespace: "shop".to_owned(),
            name: "db-0".to_owned(),
            ..PodRow::default()
        };
        let idle = PodRow {
            name: "idle".to_owned(),
            cpu_cores: Some(0.0),
            memory_bytes: Some(0.0),
            pressure: Stalls {
                cpu: Some(0.0),
                ..Stalls::default()
            },
            queue: Some(0),
            ..quiet.clone()
        };
        let columns = Columns {
            header: true,
            namespace: true,
            wide: false,
        };
        let text = printed(&pods(&[busy(), idle, quiet], columns));
        let expected = "\
NAMESPACE   NAME    CPU(cores)   MEMORY(bytes)   PRESSURE       QUEUE
shop        web-1   250m         42Mi            12.5% memory   5
shop        idle    0m           0Mi             0.0%           0
shop        db-0    <unknown>    <unknown>       <unknown>      <unknown>
";
        assert_eq!(text, expected);
    }

    #[test]
    fn little_memory_is_not_none() {
        let printed = |bytes| mebibytes(Some(bytes));
        assert_eq!(
            [0.0, 417_792.0, 1_048_576.0].map(printed),
            ["0Mi", "408Ki", "1Mi"]
        );
    }

    #[test]
    fn wide_shows_each_pressure_and_queue() {
        let columns = Columns {
            header: false,
            namespace: false,
            wide: true,
        };
        assert_eq!(
            printed(&pods(&[busy()], columns)),
            "web-1   250m   42Mi   12.5% memory   5   3.1%   12.5%   <unknown>   8080:3/128,/run/app.sock:2   n1\n"
        );
    }

    #[test]
    fn a_silent_node_is_listed_without_numbers() {
        let seen = NodeRow {
            name: "n1".to_owned(),
            heard: true,
            cpu_cores: Some(1.5),
            memory_bytes: Some(2_147_483_648.0),
            load: Some(0.75),
            pressure: Stalls {
                cpu: Some(1.0),
                ..Stalls::default()
            },
            queue: None,
            pods: Some(12),
        };
        let silent = NodeRow {
            name: "n2".to_owned(),
            ..NodeRow::default()
        };
        let columns = Columns {
            header: true,
            namespace: false,
            wide: true,
        };
        let expected = "\
NAME   CPU(cores)   MEMORY(bytes)   LOAD        PRESSURE    QUEUE       PSI-CPU     PSI-MEMORY   PSI-IO      PODS        AGENT
n1     1500m        2048Mi          0.75        1.0% cpu    <unknown>   1.0%        <unknown>    <unknown>   12          heard
n2     <unknown>    <unknown>       <unknown>   <unknown>   <unknown>   <unknown>   <unknown>    <unknown>   <unknown>   silent
";
        assert_eq!(printed(&nodes(&[seen, silent], columns)), expected);
    }
}
