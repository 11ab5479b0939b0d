package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// flags are the options of one verb; each verb defines those that it has.
type flags struct {
	set   *pflag.FlagSet
	json  bool
	quiet bool
	jobs  int

	output string
	source sourceFlags
	pack   packFlags
	boot   bootFlags
	initrd initrdFlags
	run    runFlags
	advise adviseFlags
	repack repackFlags
	cache  cacheFlags
}

func newFlags(v verb) *flags {
	f := &flags{set: pflag.NewFlagSet(v.name, pflag.ContinueOnError)}
	f.set.SortFlags = false
	f.set.SetOutput(io.Discard) // errors and help are printed by us
	f.set.Usage = func() {}
	if v.flags != nil {
		v.flags(f)
	}
	f.set.BoolVar(&f.json, "json", false, "print the result as JSON on stdout, a failure as an object with \"error\"")
	f.set.BoolVarP(&f.quiet, "quiet", "q", false, v.quiet)
	f.set.IntVarP(&f.jobs, "jobs", "j", 0, "`NUMBER` of compressing workers (default: one a CPU)")
	// Every verb takes them, so that a script need not tell the verbs apart.
	f.set.Lookup("quiet").Hidden = v.quiet == ""
	f.set.Lookup("jobs").Hidden = !v.parallel
	return f
}

// repeatable ends the help of an option that may be given more than once.
const repeatable = "; may be repeated"

// parse reads a command line. An option with a single value is given once:
// dropping one of two in silence would press something else than was asked for.
func (f *flags) parse(args []string) error {
	given := map[string]bool{}
	err := f.set.ParseAll(args, func(flag *pflag.Flag, value string) error {
		_, list := flag.Value.(pflag.SliceValue)
		if given[flag.Name] && !list && flag.Value.Type() != "bool" {
			return fmt.Errorf("--%s is given twice, and takes one value", flag.Name)
		}
		given[flag.Name] = true
		return f.set.Set(flag.Name, value)
	})
	if err != nil && !f.json {
		// What is wrong may come before it.
		f.json = slices.Contains(args, "--json")
	}
	return err
}

func (f *flags) usage(w io.Writer, v verb) {
	fmt.Fprintf(w, "Usage: isopress %s %s\n\n%s.\n\n%s%s", v.name, v.args, v.about, f.set.FlagUsages(), v.more)
}

func (f *flags) addOutput() {
	f.set.StringVarP(&f.output, "output", "o", "", "`FILE` to write (required)")
}

// noArgs refuses arguments beyond the options.
func noArgs(args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q", args[0])
	}
	return nil
}

// printJSON puts a result on stdout.
func (a *app) printJSON(v any) error {
	a.printed = true
	enc := json.NewEncoder(a.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// failure is what a failed verb prints as JSON, where it has no more to tell.
type failure struct {
	Error string `json:"error"`
}

// parseSize reads bytes with an optional suffix K, M, G or T, in powers of 1024.
func parseSize(s string) (int64, error) {
	digits := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(s), "B"), "I")
	shift := 0
	if i := strings.IndexAny(digits, "KMGT"); i >= 0 && i == len(digits)-1 {
		shift = 10 * (1 + strings.IndexByte("KMGT", digits[i]))
		digits = digits[:i]
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("size %q: use bytes, or a number with K, M, G or T", s)
	}
	return n << shift, nil
}

// sourceDate reads SOURCE_DATE_EPOCH; the zero time where it is not set.
func (a *app) sourceDate() (time.Time, error) {
	s := a.getenv("SOURCE_DATE_EPOCH")
	if s == "" {
		return time.Time{}, nil
	}
	seconds, err := strconv.ParseInt(s, 10, 64)
	if err != nil || seconds < 0 || seconds > math.MaxUint32 {
		return time.Time{}, usagef("SOURCE_DATE_EPOCH %q: must be seconds since 1970, up to 2106", s)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
