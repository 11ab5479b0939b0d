package builder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/isopress/isopress/initrd"
	"github.com/isopress/isopress/internal/hostroot"
	"github.com/isopress/isopress/internal/kcmdline"
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
	Loader        string   // LoaderStub, LoaderGRUB, or "" for the first
	GRUBDirs      []string // host directories with i386-pc and x86_64-efi in them; default: the closure's, or /usr/lib/grub
	FAT32         bool     // the EFI system partition is FAT32 rather than FAT16
	EFIStub       string   // host file to take for our own UEFI stub, or EFIStubSystemd
}

// Validate reports what is wrong with the options in themselves. It looks at no file.
func (b *Boot) Validate() error {
	ours := b.Initrd == "" || b.Initrd == InitrdAuto
	switch {
	case b.System == "" && b.Kernel == "":
		return errNoKernel
	case b.System == "" && ours && b.KernelModules == "":
		return errNoModules
	}
	if err := b.checkLoader(); err != nil {
		return err
	}
	if err := checkCmdline(b.Cmdline); err != nil {
		return err
	}
	if b.VolumeID != "" {
		if _, err := iso.NewWriter(nil, iso.Options{VolumeID: b.VolumeID}); err != nil {
			return OptionError{err}
		}
	}
	if b.Init != "" {
		return checkInitName(b.Init)
	}
	return nil
}

var (
	errNoKernel  = OptionError{errors.New("no kernel: name one with --kernel, or a top level with --system")}
	errNoModules = OptionError{errors.New("no kernel modules for the initrd: name a directory with lib/modules/<version> with --kernel-modules, or an initrd with --initrd")}
)

func checkCmdline(line string) error {
	if err := kcmdline.Check(line); err != nil {
		return OptionError{fmt.Errorf("command line %s: %w", line, err)}
	}
	return nil
}

// payload is a kernel or an initrd.
type payload struct {
	name   string // in the ISO
	size   int64
	host   string      // the file that it is; "" for an initrd of our own, and one of old
	info   fs.FileInfo // of host, when it was looked at
	packed []byte      // an initrd of our own
	old    fs.FS       // the tree of an image that has it by its name
	inside string      // its path in the squashfs, where that has it too
}

func (p *payload) open() (io.ReadCloser, error) {
	switch {
	case p.old != nil:
		return p.old.Open(p.name)
	case p.host == "":
		return io.NopCloser(bytes.NewReader(p.packed)), nil
	}
	return os.Open(p.host)
}

// bootFiles is a Boot with everything found and checked.
type bootFiles struct {
	kernel   payload
	initrd   payload
	cmdline  string
	volumeID string
	efiStub  []byte    // nil: iso's own
	grub     *grubBoot // nil: the stubs boot
	variants []variant // of GRUB's menu
	manifest ManifestBoot
	squashfs string         // its path in the ISO
	added    []iso.Addition // files of the ISO that have nothing to do with all this
}

// payloads are in the order in which they lie in the unified kernel image.
func (b *bootFiles) payloads() []*payload {
	all := []*payload{&b.initrd, &b.kernel}
	for _, v := range b.variants {
		for _, p := range []*payload{v.initrd, v.kernel} {
			if !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
	}
	return all
}

// rootInits are what isopress-init looks for in a tree, as the kernel does.
var rootInits = []string{"/sbin/init", "/etc/init", "/init", "/bin/sh"}

// What a manifest says of a kernel or an initrd that is no file of the closure.
const fromFile = "file"

// prepareBoot finds kernel and initrd, and packs the latter where it is ours.
func (o *Options) prepareBoot(ctx context.Context) (*bootFiles, error) {
	sys, err := o.bootSystem()
	if err != nil {
		return nil, err
	}
	b := &bootFiles{manifest: ManifestBoot{System: sys.toplevel}, squashfs: o.squashfsFile()}
	if err := o.setKernel(b, sys); err != nil {
		return nil, err
	}
	if err := o.setInitrd(b, sys); err != nil {
		return nil, err
	}
	if err := o.setCmdline(b, sys); err != nil {
		return nil, err
	}
	b.manifest.Cmdline = b.cmdline
	if err := o.setStub(b); err != nil {
		return nil, err
	}
	if o.Boot.Loader == LoaderGRUB {
		if err := o.setGRUB(ctx, b, sys); err != nil {
			return nil, err
		}
	}
	if err := o.checkISO(b); err != nil {
		return nil, err
	}
	if err := o.warnLargeInitrds(b); err != nil {
		return nil, err
	}
	if b.manifest.Initrd == InitrdAuto {
		return b, o.packInitrd(ctx, b, sys)
	}
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
		return nil, err
	}
	return sys, nil
}

func (o *Options) setKernel(b *bootFiles, sys *system) error {
	host, from := o.Boot.Kernel, "--kernel"
	b.manifest.Kernel = fromFile
	if host == "" {
		if sys.kernel == "" {
			return errNoKernel
		}
		inside, found, err := o.Source.Closure.resolve(sys.kernel)
		if err != nil {
			return fmt.Errorf("kernel %s: %w", sys.kernel, err)
		}
		host, from, b.manifest.Kernel = found, "kernel", inside
	}
	var err error
	b.kernel, err = kernelPayload(kernelFile, from, host)
	return err
}

// kernelPayload is a kernel that can be booted.
func kernelPayload(name, from, host string) (payload, error) {
	f, size, err := openFile(from, host)
	if err != nil {
		return payload{}, err
	}
	defer f.Close() // read only: nothing is lost with its error
	if err := iso.CheckKernel(f, size); err != nil {
		return payload{}, named(from, host, err)
	}
	return hostPayload(name, host, f, size)
}

// openFile opens a file that has content; errors begin with from and its name.
func openFile(from, host string) (*os.File, int64, error) {
	info, err := os.Stat(host)
	if err != nil {
		return nil, 0, named(from, host, err)
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s %s: not a regular file", from, host)
	}
	if info.Size() == 0 {
		return nil, 0, fmt.Errorf("%s %s: an empty file", from, host)
	}
	f, err := os.Open(host)
	if err != nil {
		return nil, 0, named(from, host, err)
	}
	return f, info.Size(), nil
}

// setInitrd finds the initrd; one of ours is packed last, when all else is right.
func (o *Options) setInitrd(b *bootFiles, sys *system) error {
	host, from := o.Boot.Initrd, "--initrd"
	b.manifest.Initrd = fromFile
	if host == "" && sys.initrd != "" {
		inside, found, err := o.Source.Closure.resolve(sys.initrd)
		if err != nil {
			return fmt.Errorf("initrd %s: %w", sys.initrd, err)
		}
		host, from, b.manifest.Initrd = found, "initrd", inside
		o.warnSecrets(sys)
	}
	if host == "" || host == InitrdAuto {
		b.manifest.Initrd = InitrdAuto
		b.initrd.name = initrdFile
		return nil
	}
	var err error
	if b.initrd, err = o.initrdPayload(initrdFile, from, host); err != nil {
		return err
	}
	same, err := b.initrd.same(&b.kernel)
	if err != nil {
		return named(from, host, err)
	}
	if same {
		return fmt.Errorf("%s %s: is the kernel; give the initrd that goes with it", from, host)
	}
	return nil
}

func (o *Options) warnSecrets(sys *system) {
	if sys.secrets {
		o.warn("%s: its initrd wants secrets added at installation, which an ISO for all to read does not get", sys.toplevel)
	}
}

// initrdPayload is an initrd that is there already.
func (o *Options) initrdPayload(name, from, host string) (payload, error) {
	f, size, err := openFile(from, host)
	if err != nil {
		return payload{}, err
	}
	defer f.Close() // read only: nothing is lost with its error
	var head [6]byte
	if _, err := io.ReadFull(f, head[:]); err != nil || !looksPacked(head[:]) {
		o.warn("%s: does not look like an initrd: neither a cpio archive nor compressed", host)
	}
	return hostPayload(name, host, f, size)
}

func hostPayload(name, host string, f *os.File, size int64) (payload, error) {
	info, err := f.Stat()
	return payload{name: name, size: size, host: host, info: info}, err
}

// looksPacked knows how the kernel's initrds begin (init/initramfs.c, lib/decompress.c).
func looksPacked(head []byte) bool {
	for _, magic := range []string{"070701", "070702", "\x1f\x8b", "\x28\xb5\x2f\xfd", "\xfd7zXZ", "\x02\x21\x4c\x18", "BZh", "\x5d\x00", "\x89LZO"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	return false
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
			_, host, err := c.resolve(sys.modules)
			if err != nil {
				return fmt.Errorf("kernel modules: %w", err)
			}
			opts.KernelModules = host
		}
	}
	if opts.KernelModules == "" {
		return errNoModules
	}
	a, modules, err := opts.archive()
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	if err := a.Write(ctx, &packed, initrd.Options{ModTime: o.SourceDate}); err != nil {
		return err
	}
	b.initrd.size, b.initrd.packed = int64(packed.Len()), packed.Bytes()
	b.manifest.KernelVersion, b.manifest.Modules = modules.Version, modules.Added
	return nil
}

// setCmdline puts the command line together, and settles the volume ID with it.
func (o *Options) setCmdline(b *bootFiles, sys *system) error {
	params := append([]string(nil), sys.params...)
	if o.Boot.Cmdline != "" {
		params = append(params, o.Boot.Cmdline)
	}
	given := strings.Join(params, " ")
	if err := checkCmdline(given); err != nil {
		return err
	}
	first, err := o.initParam(b, sys, given)
	if err != nil {
		return err
	}
	root, err := o.rootParam(b, given)
	if err != nil {
		return err
	}
	// Ahead of the rest: what follows a "--" is not the kernel's.
	b.cmdline = strings.TrimSpace(first + root + given)
	return nil
}

// initParam is "init=… ", or nothing where nothing is known.
func (o *Options) initParam(b *bootFiles, sys *system, given string) (string, error) {
	first := o.Boot.Init
	if first == "" {
		first = sys.init
	}
	if first != "" {
		return "init=" + first + " ", o.checkInit(first)
	}
	if b.manifest.Initrd != InitrdAuto {
		return "", nil
	}
	for _, p := range kcmdline.Split(given) {
		if p.Key == "init" {
			return "", o.checkInit(p.Value)
		}
	}
	if o.Source.Closure != nil {
		return "", OptionError{errors.New("no init: a store alone does not say what to start; name a program of it with --init, or a top level with --system")}
	}
	for _, name := range rootInits {
		if o.checkInit(name) == nil {
			return "", nil // isopress-init finds it as well
		}
	}
	return "", OptionError{fmt.Errorf("no init: the tree has none of %s; name one with --init", strings.Join(rootInits, ", "))}
}

// rootParam settles the volume ID, and is "root=LABEL=… " where the command line
// has no root= and the initrd is not the system's own, which has its own ways.
func (o *Options) rootParam(b *bootFiles, given string) (string, error) {
	b.volumeID = o.Boot.VolumeID
	root, found := kcmdline.Root(given)
	if label, ok := kcmdline.Label(root); ok {
		if b.volumeID != "" && b.volumeID != label {
			return "", OptionError{fmt.Errorf("volume ID %q, but the command line says root=%s: the initrd would not find the medium", b.volumeID, root)}
		}
		b.volumeID = label
	}
	if b.volumeID == "" {
		b.volumeID = DefaultVolumeID
	}
	if found || b.manifest.Initrd != InitrdAuto && b.manifest.Initrd != fromFile {
		return "", nil
	}
	return "root=LABEL=" + kcmdline.Escape(b.volumeID) + " ", nil
}

// resolve follows the symlinks of a path of the guest's.
func (o *Options) resolve(path string) (inside, host string, err error) {
	if o.Source.Closure != nil {
		return o.Source.Closure.resolve(path)
	}
	root, err := hostroot.New(o.Source.Root)
	if err != nil {
		return "", "", err
	}
	host, err = root.Resolve(root.Host(path))
	return root.Inside(host), host, err
}

// statInside describes what a path of the guest's leads to.
func (o *Options) statInside(name string) (fs.FileInfo, error) {
	if o.tar != nil {
		return o.tar.Stat(strings.TrimPrefix(path.Clean(name), "/"))
	}
	_, host, err := o.resolve(name)
	if err != nil {
		return nil, err
	}
	return os.Stat(host)
}

// checkInit sees to it that init= names a program of the closure or tree.
func (o *Options) checkInit(first string) error {
	if err := checkInitName(first); err != nil {
		return err
	}
	info, err := o.statInside(first)
	if err != nil {
		return fmt.Errorf("init %s: %w", first, err)
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("init %s: not a program", first)
	}
	return nil
}

func checkInitName(first string) error {
	if !path.IsAbs(first) {
		return OptionError{fmt.Errorf("init %q: not an absolute path", first)}
	}
	if strings.ContainsAny(first, " \t\n\"") {
		return OptionError{fmt.Errorf("init %q: white space or a quote, which the kernel's command line cannot hold in it", first)}
	}
	return nil
}
