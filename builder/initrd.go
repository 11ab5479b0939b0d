package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/isopress/isopress/initrd"
	"github.com/isopress/isopress/internal/codec"
)

// InitrdOptions say what goes into an initrd.
type InitrdOptions struct {
	Init          string   // host file that becomes /init
	KernelModules string   // host directory with lib/modules/<version>, "" for none
	Modules       []string // names that must be there; nil: [initrd.DefaultModules] as far as the kernel has them
	Add           []Add
	Root          string // host directory that absolute symlinks of KernelModules start from, "" for /
	Compression   string // as [initrd.Options] has it
	SourceDate    time.Time
	Output        string
	Warn          func(msg string)
}

// Add is a file or tree of the host and its place in the initrd.
type Add struct{ Src, Dst string }

// ParseAdd reads "SRC:DST".
func ParseAdd(s string) (Add, error) {
	src, dst, ok := strings.Cut(s, ":")
	if !ok || src == "" || dst == "" {
		return Add{}, fmt.Errorf("%q: must be SRC:DST, a host path and its place in the initrd", s)
	}
	return Add{src, dst}, nil
}

// InitrdResult tells of an initrd that was written.
type InitrdResult struct {
	Output        string   `json:"output"`
	Size          int64    `json:"size"` // bytes
	SHA256        string   `json:"sha256"`
	Init          string   `json:"init,omitempty"` // the host's file that is /init
	KernelVersion string   `json:"kernel_version,omitempty"`
	Modules       []string `json:"modules,omitempty"` // in load order
	Builder       Builder  `json:"builder"`
}

// essential modules: without one of them, as a module or built in, no medium is mounted.
var essential = []string{"loop", "squashfs", "overlay", "isofs"}

// archive collects the entries.
func (o *InitrdOptions) archive() (*initrd.Archive, initrd.Modules, error) {
	a := &initrd.Archive{Root: o.Root}
	var modules initrd.Modules
	if o.Init != "" {
		if err := a.AddInit(o.Init); err != nil {
			return nil, modules, err
		}
	}
	if o.KernelModules != "" {
		var err error
		if modules, err = o.addModules(a); err != nil {
			return nil, modules, err
		}
	}
	for _, add := range o.Add {
		if err := a.AddTree(add.Dst, add.Src); err != nil {
			return nil, modules, fmt.Errorf("--add %s:%s: %w", add.Src, add.Dst, err)
		}
	}
	return a, modules, nil
}

func (o *InitrdOptions) addModules(a *initrd.Archive) (initrd.Modules, error) {
	if _, err := os.Stat(o.KernelModules); err != nil {
		return initrd.Modules{}, named("--kernel-modules", o.KernelModules, err)
	}
	want, must := o.Modules, o.Modules
	if want == nil {
		want, must = initrd.DefaultModules, essential
	}
	modules, err := a.AddModules(o.KernelModules, want)
	if err != nil {
		return modules, err
	}
	for _, name := range must {
		for _, missing := range modules.Missing {
			if name == missing {
				return modules, fmt.Errorf("kernel modules %s: the kernel %s has no module %s", o.KernelModules, modules.Version, name)
			}
		}
	}
	return modules, nil
}

// Validate reports what is wrong with the options in themselves. It looks at no file.
func (o *InitrdOptions) Validate() error {
	if len(o.Modules) > 0 && o.KernelModules == "" {
		return OptionError{errors.New("modules are named, but no tree to take them from: give --kernel-modules")}
	}
	return nil
}

// Initrd writes an initrd.
func Initrd(ctx context.Context, o InitrdOptions) (*InitrdResult, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Init == "" && o.KernelModules == "" && len(o.Add) == 0 {
		return nil, OptionError{errors.New("nothing to pack: give --init, --kernel-modules or --add")}
	}
	target, err := findTarget(o.Output)
	if err != nil {
		return nil, err
	}
	if spec, err := codec.Parse(o.Compression); err == nil {
		if msg := codec.WriterWarning(spec); msg != "" && o.Warn != nil {
			o.Warn(msg)
		}
	}
	a, modules, err := o.archive()
	if err != nil {
		return nil, err
	}
	res := &InitrdResult{
		Output: o.Output, Init: o.Init, KernelVersion: modules.Version, Modules: modules.Added, Builder: builderOf(codec.WriterEngine, o.Compression),
	}
	return res, writeOutput(target, func(out *output) error {
		h, file := sha256.New(), io.NewOffsetWriter(out, 0)
		err := a.Write(ctx, io.MultiWriter(file, h), initrd.Options{Compression: o.Compression, ModTime: o.SourceDate})
		if err != nil {
			return err
		}
		res.SHA256 = hex.EncodeToString(h.Sum(nil))
		res.Size, err = file.Seek(0, io.SeekCurrent)
		return err
	})
}
