package main

import (
	"fmt"
	"sort"
	"time"

	"github.com/anishathalye/porcupine"
)

// enough is how long the search for an order may take, for one register.
const enough = 2 * time.Minute

// register is a value that is written and read as a whole; 0 before the first write.
var register = porcupine.Model{
	Init: func() any { return uint64(0) },
	Step: func(state, input, output any) (bool, any) {
		o := input.(operation)
		if o.isWrite() {
			return true, o.Value
		}
		return state == o.Value, state
	},
}

// linearizable looks, for each register, for an order of the operations in which every read saw the last write.
func (h *history) linearizable() error {
	byKey := h.settled()
	keys := make([]uint64, 0, len(byKey))
	for key := range byKey {
		keys = append(keys, key)
	}
	sort.Slice(keys, func(a, b int) bool { return keys[a] < keys[b] })
	for _, key := range keys {
		operations := byKey[key]
		switch porcupine.CheckOperationsTimeout(register, operations, enough) {
		case porcupine.Illegal:
			return fmt.Errorf("not linearizable: the %d operations on register %d fit into no order", len(operations), key)
		case porcupine.Unknown:
			return fmt.Errorf("undecided: no answer for the %d operations on register %d within %s", len(operations), key, enough)
		}
	}
	return nil
}

// settled gives the operations that must be put in order, by register. A refused write is none of them: whoever saw it
// saw something that was never written. A write of unknown fate counts if someone saw it, and then it was done
// before the first of those who saw it returned; if nobody did, no read tells whether it was done, and there is an
// order with it if and only if there is one without.
func (h *history) settled() map[uint64][]porcupine.Operation {
	seen := map[uint64]int64{}
	for _, o := range h.operations {
		if o.isWrite() {
			continue
		}
		if first, known := seen[o.Value]; !known || o.Return < first {
			seen[o.Value] = o.Return
		}
	}
	byKey := map[uint64][]porcupine.Operation{}
	for _, o := range h.operations {
		end := o.Return
		switch o.Outcome {
		case failed:
			continue
		case unknown:
			first, known := seen[o.Value]
			if !known {
				continue
			}
			// A read that returned before the call stays out of order.
			end = max(first, o.Call)
		}
		byKey[o.Key] = append(byKey[o.Key], porcupine.Operation{Input: o, Call: o.Call, Return: end})
	}
	return byKey
}
