package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Where the root is put together.
const (
	sysroot  = "/sysroot"
	lowerDir = "/lower" // rootImage
	upperDir = "/upper" // the tmpfs over it
)

// mountAt mounts on a directory, which is made if need be.
func mountAt(source, target, fstype string, flags uintptr, data string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	err := unix.Mount(source, target, fstype, flags, data)
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("mount %s: the kernel has no %s, and no module of it was loaded", target, fstype)
	}
	if err != nil {
		return fmt.Errorf("mount %s (%s): %w", target, fstype, err)
	}
	return nil
}

// mountEarly mounts what the rest needs. What is mounted already is kept.
func mountEarly() error {
	for _, m := range []struct {
		fstype, target string
		flags          uintptr
		data           string
	}{
		{"proc", "/proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"devtmpfs", "/dev", unix.MS_NOSUID, "mode=0755"},
	} {
		err := mountAt(m.fstype, m.target, m.fstype, m.flags, m.data)
		if err != nil && !errors.Is(err, unix.EBUSY) {
			return err
		}
	}
	return nil
}

func (b *boot) mountRoot(m medium) error {
	if m.store {
		return b.mountStore()
	}
	return b.mountTree()
}

// mountStore makes a root around the store, with NixOS's names for its parts.
func (b *boot) mountStore() error {
	if err := mountAt("tmpfs", sysroot, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	if err := moveMount(mediumDir, sysroot+"/iso"); err != nil {
		return err
	}
	if err := mountImage(sysroot+"/iso/"+storeImage, "/iso/"+storeImage, sysroot+"/nix/.ro-store"); err != nil {
		return err
	}
	rw := sysroot + "/nix/.rw-store"
	if err := mountAt("tmpfs", rw, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	if err := mountOverlay(sysroot+"/nix/store", sysroot+"/nix/.ro-store", rw+"/store", rw+"/work"); err != nil {
		return err
	}
	b.debugf("store mounted")
	return mountForNixOS()
}

// mountForNixOS mounts what NixOS's second stage takes for granted: it makes
// links in /run, over which systemd would mount a tmpfs if there were none.
func mountForNixOS() error {
	if err := os.Mkdir(sysroot+"/tmp", 0o755); err != nil {
		return err
	}
	if err := os.Chmod(sysroot+"/tmp", 0o777|os.ModeSticky); err != nil {
		return err
	}
	for _, m := range []struct {
		fstype, target string
		flags          uintptr
		data           string
	}{
		{"tmpfs", sysroot + "/run", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_STRICTATIME, "mode=755,size=25%"},
		{"devpts", "/dev/pts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=620,ptmxmode=0666,gid=3"},
		{"tmpfs", "/dev/shm", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_STRICTATIME, "mode=1777,size=50%"},
	} {
		if err := mountAt(m.fstype, m.target, m.fstype, m.flags, m.data); err != nil {
			return err
		}
	}
	return nil
}

// mountTree makes the root of a whole tree. /run, /dev/pts and the like are left
// to its init, as a kernel without an initrd would leave them.
func (b *boot) mountTree() error {
	if err := mountImage(mediumDir+"/"+rootImage, "/iso/"+rootImage, lowerDir); err != nil {
		return err
	}
	if err := mountAt("tmpfs", upperDir, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	if err := likeLower(upperDir+"/root", lowerDir); err != nil {
		return err
	}
	if err := mountOverlay(sysroot, lowerDir, upperDir+"/root", upperDir+"/work"); err != nil {
		return err
	}
	b.debugf("root mounted")
	// A link there would lead out of the tree; the medium can be done without.
	if fi, err := os.Lstat(sysroot + "/iso"); err == nil && !fi.IsDir() {
		say("/iso is not a directory in the root: the medium is not reachable there")
		return nil
	}
	return moveMount(mediumDir, sysroot+"/iso")
}

// likeLower makes an upper directory with the mode and the owner of lower: the
// root of an overlay has those of its upper directory.
func likeLower(upper, lower string) error {
	var st unix.Stat_t
	if err := unix.Stat(lower, &st); err != nil {
		return fmt.Errorf("stat %s: %w", lower, err)
	}
	if err := os.Mkdir(upper, 0o755); err != nil {
		return err
	}
	if err := unix.Chown(upper, int(st.Uid), int(st.Gid)); err != nil {
		return fmt.Errorf("chown %s: %w", upper, err)
	}
	if err := unix.Chmod(upper, st.Mode&0o7777); err != nil {
		return fmt.Errorf("chmod %s: %w", upper, err)
	}
	return nil
}

func mountOverlay(target, lower, upper, work string) error {
	for _, d := range []string{upper, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	return mountAt("overlay", target, "overlay", 0, "lowerdir="+lower+",upperdir="+upper+",workdir="+work)
}

func moveMount(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(from, to, "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move %s to %s: %w", from, to, err)
	}
	return nil
}

// mountImage mounts a squashfs file of the medium; name is the path that the
// loop device shows.
func mountImage(file, name, target string) error {
	loop, err := attachLoop(file, name)
	if err != nil {
		return fmt.Errorf("%s: loop device: %w", name, err)
	}
	// Mounted, the device stays attached until it is unmounted, else not.
	err = mountSquashfs(loop.path, target)
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return errors.Join(err, unix.Close(loop.fd))
}

func mountSquashfs(dev, target string) error {
	if threadsOption(release()) {
		// A kernel without the choice has one fixed way, and refuses the option.
		err := mountAt(dev, target, "squashfs", unix.MS_RDONLY, "threads=multi")
		if err == nil || !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	err := mountAt(dev, target, "squashfs", unix.MS_RDONLY, "")
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EIO) {
		return fmt.Errorf("%w: it is damaged, or this kernel's squashfs lacks its compression", err)
	}
	return err
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// switchRoot makes sysroot the root, and frees the memory of the initrd.
func switchRoot() error {
	for _, d := range []string{"/dev", "/proc", "/sys"} {
		if err := moveMount(d, sysroot+d); err != nil {
			return err
		}
	}
	if err := emptyInitramfs(); err != nil {
		say("the initrd's memory is not freed: %v", err)
	}
	if err := os.Chdir(sysroot); err != nil {
		return err
	}
	// rootfs itself cannot be unmounted or pivoted: the new root goes over it.
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move %s to /: %w", sysroot, err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	return os.Chdir("/")
}

// emptyInitramfs removes what is on the root file system, if that is memory.
func emptyInitramfs() error {
	var fs unix.Statfs_t
	if err := unix.Statfs("/", &fs); err != nil {
		return err
	}
	if t := uint32(fs.Type); t != unix.RAMFS_MAGIC && t != unix.TMPFS_MAGIC {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Lstat("/", &st); err != nil {
		return err
	}
	return removeWithin("/", uint64(st.Dev))
}

// removeWithin removes what is in dir, and on the device dev: not what is
// mounted there, nor the directories it is mounted on.
func removeWithin(dir string, dev uint64) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		p := filepath.Join(dir, e.Name())
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		if uint64(st.Dev) != dev {
			continue
		}
		if e.IsDir() {
			if err := removeWithin(p, dev); err != nil {
				return err
			}
		}
		if err := os.Remove(p); err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
	}
	return nil
}

// rootInits are tried in this order, as the kernel does (init/main.c).
var rootInits = []string{"/sbin/init", "/etc/init", "/init", "/bin/sh"}

// execInit becomes the system's init, with the arguments that the kernel has
// given us for it. It returns only on failure.
func (b *boot) execInit(store bool) error {
	if b.cfg.init == "" && store {
		return fmt.Errorf("the kernel command line has no init=%s", knownInits())
	}
	inits := rootInits
	if b.cfg.init != "" {
		inits = []string{b.cfg.init}
	}
	var errs []error
	for _, init := range inits {
		err := checkInit(init)
		if err == nil {
			b.debugf("exec %s", init)
			err = execError(init, unix.Exec(init, append([]string{init}, initArgs(os.Args[1:])...), os.Environ()))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func checkInit(init string) error {
	fi, err := os.Stat(init)
	if errors.Is(err, os.ErrNotExist) {
		if target, linkErr := os.Readlink(init); linkErr == nil {
			return fmt.Errorf("init %s is a symlink to %s, which is not there", init, target)
		}
		return fmt.Errorf("init %s is not there%s", init, knownInits())
	}
	switch {
	case err != nil:
		return fmt.Errorf("init %s: %w", init, err)
	case !fi.Mode().IsRegular():
		return fmt.Errorf("init %s is not a file", init)
	case fi.Mode()&0o111 == 0:
		return fmt.Errorf("init %s is not executable", init)
	}
	return nil
}

func execError(init string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("init %s: its interpreter (of its #! line, or its ELF loader) is not there", init)
	case errors.Is(err, unix.ENOEXEC):
		return fmt.Errorf("init %s is not a program for this machine: %w", init, err)
	}
	return fmt.Errorf("init %s: %w", init, err)
}

// knownInits names what a store has that looks like an init.
func knownInits() string {
	found, err := filepath.Glob("/nix/store/*/init")
	if err != nil || len(found) == 0 {
		return ""
	}
	const most = 5
	more := ""
	if len(found) > most {
		found, more = found[:most], ", …"
	}
	return "; the store has " + strings.Join(found, ", ") + more
}
