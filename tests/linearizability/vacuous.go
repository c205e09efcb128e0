package main

import (
	"fmt"
	"sort"
)

// vacuous says why a history would be linearizable whatever the system did: nobody was in anyone's way, or nobody looked.
func (h *history) vacuous(least int) error {
	if writes := h.count("write", ok); writes < least {
		return fmt.Errorf("vacuous: %d acknowledged writes, at least %d are needed", writes, least)
	}
	if reads := h.count("read", ok); reads < least {
		return fmt.Errorf("vacuous: %d reads, at least %d are needed", reads, least)
	}
	if !h.overlaps() {
		return fmt.Errorf("vacuous: no write overlaps with an operation of another client on the same register")
	}
	if !h.sawAnother() {
		return fmt.Errorf("vacuous: no read saw what another client wrote")
	}
	if !h.sawOverFault() {
		return fmt.Errorf("vacuous: no read after a fault saw what was acknowledged before it")
	}
	return nil
}

// overlaps tells whether an acknowledged write was under way together with an operation of another client.
func (h *history) overlaps() bool {
	done := make([]operation, 0, len(h.operations))
	for _, o := range h.operations {
		if o.Outcome == ok {
			done = append(done, o)
		}
	}
	sort.Slice(done, func(a, b int) bool { return done[a].Call < done[b].Call })
	// Of each register, what is still under way.
	under := map[uint64][]operation{}
	for _, o := range done {
		left := under[o.Key][:0]
		for _, before := range under[o.Key] {
			if before.Return < o.Call {
				continue
			}
			if before.Client != o.Client && (before.isWrite() || o.isWrite()) {
				return true
			}
			left = append(left, before)
		}
		under[o.Key] = append(left, o)
	}
	return false
}

func (h *history) sawAnother() bool {
	for _, o := range h.operations {
		if !o.isWrite() && o.Value != 0 && h.writes[o.Value].Client != o.Client {
			return true
		}
	}
	return false
}

// sawOverFault tells whether something written came through a fault: a leader that was there before it has nothing
// to lose.
func (h *history) sawOverFault() bool {
	faults := make([]int64, 0, len(h.faults))
	for _, fault := range h.faults {
		faults = append(faults, fault.Call)
	}
	sort.Slice(faults, func(a, b int) bool { return faults[a] < faults[b] })
	for _, o := range h.operations {
		write, written := h.writes[o.Value]
		if o.isWrite() || !written || write.Outcome != ok {
			continue
		}
		// The first fault after the write was acknowledged.
		at := sort.Search(len(faults), func(at int) bool { return faults[at] > write.Return })
		if at < len(faults) && faults[at] < o.Call {
			return true
		}
	}
	return false
}
