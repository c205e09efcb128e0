// Checks that what clients saw of the replicated state is linearizable: as if one copy of it had taken one operation
// after the other, each at some moment between its call and its return.
//
//	linearizability FILE...
//
// A file is a history as the failover example writes it (--history), an operation or a fault a line. A history that
// could not have shown anything is refused.
package main

import (
	"fmt"
	"os"
)

// leastOperations is how many writes, and how many reads, a history must have in which a fault might have shown.
const leastOperations = 200

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: linearizability FILE...")
		os.Exit(2)
	}
	bad := false
	for _, path := range os.Args[1:] {
		line, err := checkFile(path, leastOperations)
		if err != nil {
			bad = true
			line = err.Error()
		}
		fmt.Printf("%s: %s\n", path, line)
	}
	if bad {
		os.Exit(1)
	}
}

func checkFile(path string, least int) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	history, err := read(file)
	if err != nil {
		return "", err
	}
	if err := history.vacuous(least); err != nil {
		return "", err
	}
	if err := history.linearizable(); err != nil {
		return "", err
	}
	return "linearizable: " + history.String(), nil
}
