//! Three coordinators on a bed, and what may happen to them: leaders that go, disks that fill, stall
//! or are lost, clocks that are wrong, other versions, certificates of someone else, and the alerts
//! that tell of it. `tests/run failover` starts the bed and runs them, each by itself.

mod alerts;
mod certificates;
mod clocks;
mod disks;
mod guards;
mod late;
mod leaders;
mod losses;
mod release;
mod rolls;
mod targets;
