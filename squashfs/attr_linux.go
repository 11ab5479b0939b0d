package squashfs

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// platformAttr understands what package os gives.
func platformAttr(sys any) (Attr, error) {
	st, ok := sys.(*syscall.Stat_t)
	if !ok || st == nil {
		return Attr{}, nil
	}
	rdev, err := encodeDev(uint64(st.Rdev))
	if err != nil {
		return Attr{}, err
	}
	nlink := uint32(2) // more than one is all that matters
	if st.Nlink < 2 {
		nlink = 1
	}
	return Attr{UID: st.Uid, GID: st.Gid, Rdev: rdev, Inode: st.Ino, Dev: uint64(st.Dev), Nlink: nlink,
		Mtime: time.Unix(st.Mtim.Unix()), Ctime: time.Unix(st.Ctim.Unix())}, nil
}

// encodeDev packs a device number as the kernel's new_encode_dev does: 12 bits
// of major between the low 8 and the high 12 of minor.
func encodeDev(dev uint64) (uint32, error) {
	major, minor := unix.Major(dev), unix.Minor(dev)
	if major >= 1<<12 || minor >= 1<<20 {
		return 0, fmt.Errorf("%w: device number %d:%d", ErrTooLarge, major, minor)
	}
	return minor&0xff | major<<8 | minor&^0xff<<12, nil
}
