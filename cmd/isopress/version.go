package main

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/isopress/isopress/builder"
)

var versionVerb = verb{
	name:  "version",
	about: "Tell the version of isopress and of the compression engines in it",
	run: func(_ context.Context, a *app, f *flags, args []string) error {
		if err := noArgs(args); err != nil {
			return err
		}
		b := builder.ThisBuilder()
		if f.json {
			return a.printJSON(b)
		}
		fmt.Fprintf(a.stdout, "isopress %s (%s)\n", b.Version, b.Go)
		for _, use := range slices.Sorted(maps.Keys(b.Engines)) {
			fmt.Fprintf(a.stdout, "  %-11s %s\n", use, b.Engines[use])
		}
		return nil
	},
}
