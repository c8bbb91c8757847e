// Containerd applies layers, lowest first, to a folder with containerd's own code: what this module's parent is held
// against in a test. It is a module of its own so that cove does not depend on containerd.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/containerd/v2/pkg/archive"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: containerd ROOT LAYER.tar...")
		os.Exit(2)
	}
	for n, name := range os.Args[2:] {
		if err := apply(os.Args[1], name); err != nil {
			fmt.Fprintf(os.Stderr, "layer %d: %v\n", n, err)
			os.Exit(1)
		}
	}
}

func apply(root, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = archive.Apply(context.Background(), root, f)
	return err
}
