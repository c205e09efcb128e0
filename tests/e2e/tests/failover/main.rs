//! Three coordinators on a bed, and what may happen to them: leaders that go, disks that fill, stall
//! or are lost, other versions, and the alerts that tell of it. `tests/run failover` starts the bed and runs them, each by itself.

mod alerts;
mod disks;
mod leaders;
mod losses;
mod targets;
mod upgrade;
