package builder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/isopress/isopress/initrd"
	"github.com/isopress/isopress/iso"
)

// InitrdAuto, as [Boot.Initrd], has isopress pack an initrd of its own.
const InitrdAuto = "auto"

// DefaultVolumeID is an ISO's volume ID where nothing else says one.
const DefaultVolumeID = "ISOPRESS"

// Boot says how an ISO boots. What is left empty comes from System.
type Boot struct {
	System        string // store path of a NixOS-like top level
	Kernel        string // host file, a Linux bzImage
	KernelModules string // host directory with lib/modules/<version>, for an initrd of ours
	Initrd        string // host file, or InitrdAuto; default: System's own, or ours where it has none
	InitBinary    string // host file, isopress-init, for an initrd of ours
	Init          string // in the image: the first program; default: System's init
	Cmdline       string // appended to System's kernel parameters
	VolumeID      string // default: root=LABEL= of the command line, or DefaultVolumeID
	Joliet        bool
}

// payload is a file that lies beside the squashfs in the ISO.
type payload struct {
	size int64
	open func() (io.ReadCloser, error)
}

// bootFiles is a Boot with everything found and checked.
type bootFiles struct {
	kernel   payload
	initrd   payload
	cmdline  string
	volumeID string
	manifest ManifestBoot
}

// volumeLabel is how a command line names the medium.
const volumeLabel = "root=LABEL="

// prepareBoot finds kernel and initrd, and packs the latter where it is ours.
func (o *Options) prepareBoot(ctx context.Context) (*bootFiles, error) {
	sys, err := o.bootSystem()
	if err != nil {
		return nil, err
	}
	b := &bootFiles{manifest: ManifestBoot{System: sys.toplevel}}
	if err := o.setKernel(b, sys); err != nil {
		return nil, err
	}
	if err := o.setInitrd(ctx, b, sys); err != nil {
		return nil, err
	}
	if err := o.setCmdline(b, sys); err != nil {
		return nil, err
	}
	b.manifest.Cmdline = b.cmdline
	return b, nil
}

// bootSystem reads the top level, or stands in for one where a tree or the
// options alone say how to boot.
func (o *Options) bootSystem() (*system, error) {
	if o.Boot.System == "" {
		return &system{}, nil
	}
	if o.Source.Closure == nil {
		return nil, errors.New("a system needs a closure that it is in")
	}
	sys, err := readSystem(o.Source.Closure, o.Boot.System)
	if err != nil {
		return nil, fmt.Errorf("system: %w", err)
	}
	return sys, nil
}

func (o *Options) setKernel(b *bootFiles, sys *system) error {
	host := o.Boot.Kernel
	b.manifest.Kernel = "file"
	if host == "" {
		if sys.kernel == "" {
			return errors.New("no kernel: name one with --kernel, or a top level with --system")
		}
		inside, found, err := o.Source.Closure.resolve(sys.kernel)
		if err != nil {
			return fmt.Errorf("kernel %s: %w", sys.kernel, err)
		}
		host, b.manifest.Kernel = found, inside
	}
	f, err := os.Open(host)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := iso.CheckKernel(f, info.Size()); err != nil {
		return fmt.Errorf("%s: %w", host, err)
	}
	b.kernel = filePayload(host, info.Size())
	return nil
}

func filePayload(host string, size int64) payload {
	return payload{size, func() (io.ReadCloser, error) { return os.Open(host) }}
}

func (o *Options) setInitrd(ctx context.Context, b *bootFiles, sys *system) error {
	host := o.Boot.Initrd
	b.manifest.Initrd = "file"
	if host == "" && sys.initrd != "" {
		inside, found, err := o.Source.Closure.resolve(sys.initrd)
		if err != nil {
			return fmt.Errorf("initrd %s: %w", sys.initrd, err)
		}
		host, b.manifest.Initrd = found, inside
	}
	if host == "" || host == InitrdAuto {
		return o.packInitrd(ctx, b, sys)
	}
	info, err := os.Stat(host)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() == 0 {
		return fmt.Errorf("%s: not an initrd: an empty file, or none", host)
	}
	b.initrd = filePayload(host, info.Size())
	return nil
}

// packInitrd packs isopress-init and the kernel modules that it needs.
func (o *Options) packInitrd(ctx context.Context, b *bootFiles, sys *system) error {
	opts := InitrdOptions{Init: o.Boot.InitBinary, KernelModules: o.Boot.KernelModules, SourceDate: o.SourceDate, Warn: o.Warn}
	if opts.Init == "" {
		return errors.New("no isopress-init for the initrd: it is looked for beside isopress (go install ./cmd/...), or name it with --init-binary")
	}
	if c := o.Source.Closure; c != nil {
		opts.Root = string(c.root)
		if opts.KernelModules == "" && sys.modules != "" {
			opts.KernelModules = c.root.Host(sys.modules)
		}
	}
	if opts.KernelModules == "" {
		return errors.New("no kernel modules for the initrd: name a directory with lib/modules/<version> with --kernel-modules, or an initrd with --initrd")
	}
	a, modules, err := opts.archive()
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	if err := a.Write(ctx, &packed, initrd.Options{ModTime: o.SourceDate}); err != nil {
		return err
	}
	b.initrd = payload{int64(packed.Len()), func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(packed.Bytes())), nil
	}}
	b.manifest.Initrd, b.manifest.KernelVersion, b.manifest.Modules = InitrdAuto, modules.Version, modules.Added
	return nil
}

// setCmdline puts the command line together, and settles the volume ID with it.
func (o *Options) setCmdline(b *bootFiles, sys *system) error {
	params := append([]string(nil), sys.params...)
	first := o.Boot.Init
	if first == "" {
		first = sys.init
	}
	if first != "" {
		if err := o.checkInit(first); err != nil {
			return err
		}
		params = append([]string{"init=" + first}, params...)
	}
	if o.Boot.Cmdline != "" {
		params = append(params, o.Boot.Cmdline)
	}
	label, found := lastLabel(strings.Join(params, " "))
	switch {
	case !found:
		b.volumeID = o.Boot.VolumeID
	case o.Boot.VolumeID != "" && o.Boot.VolumeID != label:
		return fmt.Errorf("volume ID %q, but the command line says %s%s: the initrd would not find the medium", o.Boot.VolumeID, volumeLabel, label)
	default:
		b.volumeID = label
	}
	if b.volumeID == "" {
		b.volumeID = DefaultVolumeID
	}
	if !found && b.manifest.Initrd == InitrdAuto {
		params = append(params, volumeLabel+strings.ReplaceAll(b.volumeID, " ", `\x20`))
	}
	b.cmdline = strings.Join(params, " ")
	return nil
}

// lastLabel is the volume ID of the last root=LABEL= of a command line.
func lastLabel(cmdline string) (label string, found bool) {
	for _, param := range strings.Fields(cmdline) {
		if l, ok := strings.CutPrefix(param, volumeLabel); ok {
			label, found = strings.ReplaceAll(l, `\x20`, " "), true
		}
	}
	return label, found
}

// checkInit sees to it that init= names a program of the closure.
func (o *Options) checkInit(first string) error {
	if !path.IsAbs(first) {
		return fmt.Errorf("init %q: not an absolute path", first)
	}
	c := o.Source.Closure
	if c == nil {
		return nil // in a tree, the links to follow are the guest's
	}
	inside, host, err := c.resolve(first)
	if err != nil {
		return fmt.Errorf("init %s: %w", first, err)
	}
	if !c.has(inside) {
		return fmt.Errorf("init %s: %s is not in the closure", first, inside)
	}
	info, err := os.Stat(host)
	if err != nil {
		return fmt.Errorf("init %s: %w", first, err)
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("init %s: not a program", first)
	}
	return nil
}
