// Command bedtool makes what a bed needs and no command at hand makes well: certificates and container images.
// It uses the standard library alone.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bedtool:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: bedtool certs|image ...")
	}
	switch args[0] {
	case "certs":
		return certs(args[1:])
	case "image":
		return image(args[1:])
	default:
		return fmt.Errorf("unknown command %q: want certs or image", args[0])
	}
}
