//! Three coordinators on a bed, and what may happen to them: leaders that go, disks that fill, stall
//! or are lost, clocks that are wrong, other versions, and the alerts that tell of it. `tests/run failover` starts the bed and runs them, each by itself.

mod alerts;
mod clocks;
mod disks;
mod leaders;
mod losses;
mod targets;
mod upgrade;
