//! A state machine that keeps every command it applied, in order, and of each register the last one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use neap_consensus::{ApplyError, LogPosition, RestoreError, SnapshotWriter, StateMachine};

/// The register that a command writes: its upper bits.
pub fn register(command: u64) -> u64 {
    command >> 44
}

/// The commands that write to a register are those from here on, and as many as fit below the next one.
pub fn in_register(register: u64) -> u64 {
    register << 44
}

#[derive(Default)]
struct Applied {
    list: Vec<(LogPosition, u64)>,
    registers: HashMap<u64, u64>,
}

impl Applied {
    fn push(&mut self, position: LogPosition, value: u64) {
        self.list.push((position, value));
        self.registers.insert(register(value), value);
    }
}

/// What was applied, as tests see it.
#[derive(Clone, Default)]
pub struct ListView(Arc<Mutex<Applied>>);

impl ListView {
    /// All of it.
    pub fn get(&self) -> Vec<(LogPosition, u64)> {
        self.0.lock().unwrap().list.clone()
    }

    /// The last command of a register.
    pub fn read(&self, register: u64) -> Option<u64> {
        self.0.lock().unwrap().registers.get(&register).copied()
    }

    /// The commands alone.
    pub fn values(&self) -> Vec<u64> {
        self.0
            .lock()
            .unwrap()
            .list
            .iter()
            .map(|(_, value)| *value)
            .collect()
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().list.len()
    }
}

/// The state machine.
pub struct List {
    view: ListView,
}

/// The command that adds `value`.
pub fn command(value: u64) -> bytes::Bytes {
    let mut bytes = vec![1];
    bytes.extend_from_slice(&value.to_le_bytes());
    bytes.into()
}

impl List {
    pub fn new() -> (Self, ListView) {
        let view = ListView::default();
        (Self { view: view.clone() }, view)
    }
}

impl StateMachine for List {
    fn apply(&mut self, position: LogPosition, command: &[u8]) -> Result<(), ApplyError> {
        let refuse = |reason: String| ApplyError { reason };
        let value = match command {
            [1, value @ ..] if value.len() == 8 => u64::from_le_bytes(value.try_into().unwrap()),
            [version, ..] => return Err(refuse(format!("version {version}; 1 is readable"))),
            [] => return Err(refuse("it is empty".into())),
        };
        self.view.0.lock().unwrap().push(position, value);
        Ok(())
    }

    fn snapshot(&self, _format: u8) -> SnapshotWriter {
        let list = self.view.get();
        Box::new(move || {
            let mut out = Vec::with_capacity(list.len() * 32);
            for (at, value) in list {
                for word in [at.term, at.node.0, at.index, value] {
                    out.extend_from_slice(&word.to_le_bytes());
                }
            }
            out
        })
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        if !bytes.len().is_multiple_of(32) {
            return Err(RestoreError {
                reason: format!("{} bytes are no list", bytes.len()),
            });
        }
        let rows = bytes.chunks_exact(32).map(|row| {
            let word = |at: usize| u64::from_le_bytes(row[at..at + 8].try_into().unwrap());
            let position = LogPosition {
                term: word(0),
                node: neap_consensus::NodeId(word(8)),
                index: word(16),
            };
            (position, word(24))
        });
        let mut restored = Applied::default();
        rows.for_each(|(position, value)| restored.push(position, value));
        *self.view.0.lock().unwrap() = restored;
        Ok(())
    }
}
