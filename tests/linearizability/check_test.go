package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A few lines show all that matters here.
const few = 2

func load(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func check(text string) error {
	history, err := read(strings.NewReader(text))
	if err != nil {
		return err
	}
	if err := history.vacuous(few); err != nil {
		return err
	}
	return history.linearizable()
}

func expect(t *testing.T, text, want string) {
	t.Helper()
	err := check(text)
	switch {
	case want == "" && err != nil:
		t.Fatalf("refused: %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Fatalf("expected %q, got %v", want, err)
	}
}

func TestAGoodHistoryIsLinearizable(t *testing.T) {
	expect(t, load(t, "good.jsonl"), "")
	line, err := checkFile(filepath.Join("testdata", "good.jsonl"), few)
	want := "linearizable: 2 writes acknowledged, 2 unknown, 1 refused, and 5 reads, by 4 clients on 1 registers through 1 faults"
	if err != nil || line != want {
		t.Fatalf("%q, %v", line, err)
	}
}

func TestAStaleReadIsNot(t *testing.T) {
	expect(t, load(t, "stale-read.jsonl"), "not linearizable: the 5 operations on register 1")
}

func TestWhatIsNotLinearizable(t *testing.T) {
	good := load(t, "good.jsonl")
	for name, line := range map[string]string{
		"an acknowledged write is lost":       `{"client":4,"op":"read","key":1,"value":12,"call":92,"return":93,"outcome":"ok"}`,
		"a refused write is seen":             `{"client":4,"op":"read","key":1,"value":14,"call":92,"return":93,"outcome":"ok"}`,
		"what nobody wrote is seen":           `{"client":4,"op":"read","key":1,"value":99,"call":92,"return":93,"outcome":"ok"}`,
		"nothing is seen after a write":       `{"client":4,"op":"read","key":1,"value":0,"call":92,"return":93,"outcome":"ok"}`,
		"a write is seen before it is called": `{"client":4,"op":"read","key":1,"value":15,"call":64,"return":65,"outcome":"ok"}`,
	} {
		t.Run(name, func(t *testing.T) { expect(t, good+line+"\n", "not linearizable") })
	}
}

func TestAnUnknownWriteMayTakeEffectLate(t *testing.T) {
	line := `{"client":4,"op":"read","key":1,"value":15,"call":92,"return":93,"outcome":"ok"}` + "\n"
	expect(t, load(t, "good.jsonl")+line, "")
}

func TestVacuousHistoriesAreRefused(t *testing.T) {
	good := load(t, "good.jsonl")
	for name, change := range map[string]struct{ old, new, want string }{
		"few writes":          {`"value":13,"call":70,"return":80,"outcome":"ok"`, `"value":13,"call":70,"outcome":"unknown"`, "1 acknowledged writes, at least 2"},
		"no fault":            {`{"fault":"kill","call":40}` + "\n", "", "no read after a fault"},
		"a fault too late":    {`"kill","call":40`, `"kill","call":99`, "no read after a fault"},
		"everyone waits":      {`"call":10,"return":30`, `"call":10,"return":11`, "no write overlaps"},
		"only one client":     {`"client":`, `"client":7,"key":1,"x":`, "line 1: json: unknown field"},
		"a line that is none": {`"op":"read"`, `"op":"cas"`, `line 2: op "cas" is not write or read`},
		"a value twice":       {`"value":13,"call":70`, `"value":12,"call":70`, "value 12 is written twice"},
		"time runs backwards": {`"call":20,"return":22`, `"call":20,"return":2`, "return 2 is before call 20"},
	} {
		t.Run(name, func(t *testing.T) { expect(t, strings.ReplaceAll(good, change.old, change.new), change.want) })
	}
}

func TestReadsOfOnesOwnWritesShowNothing(t *testing.T) {
	expect(t, `{"client":1,"op":"write","key":1,"value":11,"call":10,"return":30,"outcome":"ok"}
{"client":2,"op":"write","key":1,"value":12,"call":10,"return":30,"outcome":"ok"}
{"client":1,"op":"read","key":1,"value":11,"call":40,"return":41,"outcome":"ok"}
{"client":1,"op":"read","key":1,"value":11,"call":42,"return":43,"outcome":"ok"}
`, "no read saw what another client wrote")
}
