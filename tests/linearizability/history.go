package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
)

// What became of an operation.
const (
	// It was done, and the client was told so.
	ok = "ok"
	// It was not done, and the client was told so.
	failed = "failed"
	// It may have been done, or may yet be.
	unknown = "unknown"
)

// operation is what a client did to one register. Times are nanoseconds of one clock.
type operation struct {
	Client  uint64 `json:"client"`
	Op      string `json:"op"`
	Key     uint64 `json:"key"`
	Value   uint64 `json:"value"` // what was written, unlike anything else that was; or what was read, 0: nothing yet
	Call    int64  `json:"call"`
	Return  int64  `json:"return"`
	Outcome string `json:"outcome"`
	Fault   string `json:"fault"`
}

func (o operation) isWrite() bool { return o.Op == "write" }

// history is what all clients saw.
type history struct {
	operations []operation
	faults     []operation
	// Writes by what they wrote.
	writes map[uint64]operation
}

// read takes in a history and refuses what is none.
func read(from io.Reader) (*history, error) {
	h := &history{writes: map[uint64]operation{}}
	lines := bufio.NewScanner(from)
	for at := 1; lines.Scan(); at++ {
		var o operation
		decoder := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&o); err != nil {
			return nil, fmt.Errorf("line %d: %w", at, err)
		}
		if err := h.add(o); err != nil {
			return nil, fmt.Errorf("line %d: %w", at, err)
		}
	}
	return h, lines.Err()
}

func (h *history) add(o operation) error {
	if o.Fault != "" {
		h.faults = append(h.faults, o)
		return nil
	}
	switch {
	case o.Op != "write" && o.Op != "read":
		return fmt.Errorf("op %q is not write or read", o.Op)
	case o.Outcome != ok && o.Outcome != failed && o.Outcome != unknown:
		return fmt.Errorf("outcome %q is not %s, %s or %s", o.Outcome, ok, failed, unknown)
	case o.Op == "read" && o.Outcome != ok:
		return fmt.Errorf("outcome %q: a read that saw nothing does not belong here", o.Outcome)
	case o.Op == "write" && o.Value == 0:
		return fmt.Errorf("value 0 stands for a register that was not written")
	}
	if o.Outcome == unknown {
		o.Return = math.MaxInt64
	}
	if o.Return < o.Call {
		return fmt.Errorf("return %d is before call %d", o.Return, o.Call)
	}
	if o.isWrite() {
		if _, twice := h.writes[o.Value]; twice {
			return fmt.Errorf("value %d is written twice: a read of it could be of either", o.Value)
		}
		h.writes[o.Value] = o
	}
	h.operations = append(h.operations, o)
	return nil
}

// count gives the number of operations of a kind with an outcome.
func (h *history) count(op, outcome string) int {
	count := 0
	for _, o := range h.operations {
		if o.Op == op && o.Outcome == outcome {
			count++
		}
	}
	return count
}

func (h *history) String() string {
	clients, keys := map[uint64]bool{}, map[uint64]bool{}
	for _, o := range h.operations {
		clients[o.Client], keys[o.Key] = true, true
	}
	return fmt.Sprintf("%d writes acknowledged, %d unknown, %d refused, and %d reads, by %d clients on %d registers through %d faults",
		h.count("write", ok), h.count("write", unknown), h.count("write", failed), h.count("read", ok),
		len(clients), len(keys), len(h.faults))
}
