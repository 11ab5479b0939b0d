// Command variants makes, of a closure, others that differ from it as a system's next version does, to measure
// what a change costs.
//
//	variants CLOSURE ROOT OUT
//
// CLOSURE has store-paths, registration and result, and ROOT/nix/store copies of its paths. The paths that
// a change makes anew are added to ROOT/nix/store, each under a new hash, so that all variants lie in it side by
// side. OUT gets a directory for each change, with
//
//	store-paths   the variant's closure
//	registration  of it
//	about         a line that says what was changed
//	bytes         of files with a content that the closure did not have under this name
//
// Who refers to a changed path gets a new hash, too, when it is the top level or what is said to be renamed; other
// users keep the old name in their files, and have the new one in the registration.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "variants: usage: variants CLOSURE ROOT OUT")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "variants:", err)
		os.Exit(1)
	}
}

func run(dir, root, out string) error {
	c, err := readClosure(dir, root)
	if err != nil {
		return err
	}
	for i, change := range changes {
		v := newVariant(c, change.name)
		about, err := change.make(v)
		if err == errNone {
			fmt.Fprintf(os.Stderr, "variants: %s: no path of the closure suits\n", change.name)
			continue
		}
		if err == nil {
			err = v.write(filepath.Join(out, fmt.Sprintf("%d-%s", i+1, change.name)), about)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", change.name, err)
		}
	}
	return nil
}
