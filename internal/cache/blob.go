package cache

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/isopress/isopress/internal/patherror"
)

// A blob's file is a header and the content. All numbers are little-endian.
const (
	magic      = "isoblob\x01" // the last byte is the version
	kindSize   = 16            // padded with zeros
	lengthAt   = len(magic) + kindSize + len(Key{})
	checksumAt = lengthAt + 8
	headerSize = checksumAt + 4
)

// A damaged or swapped file is taken for a blob once in 2^32 times. All flips within
// 32 bits in a row are found.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// tempPrefix begins the names of files that are being written. No blob's name does.
const tempPrefix = "tmp-"

// staleAge is when a temporary file is left over, on a file system without locks.
const staleAge = time.Hour

// damageError says what is wrong with a blob.
type damageError string

func (e damageError) Error() string { return string(e) }

// errPlace is a blob that cannot be put in its place. It says nothing of others.
var errPlace = errors.New("cannot be kept")

// appendHeader appends what comes before the content, without the checksum.
func appendHeader(b []byte, kind string, key Key, length int64) []byte {
	b = append(b, magic...)
	b = append(b, kind...)
	b = append(b, make([]byte, kindSize-len(kind))...)
	b = append(b, key[:]...)
	return binary.LittleEndian.AppendUint64(b, uint64(length))
}

// read returns a blob and when it was last used. A blob that is damaged, or no file,
// is a damageError; what else can be wrong says nothing of the blob.
func (s *Store) read(kind string, key Key, buf []byte) (data []byte, used time.Time, err error) {
	if !validKind(kind) {
		return nil, used, fmt.Errorf("no such kind: %q", kind)
	}
	f, ok := s.openBlob(blobName(kind, key))
	if !ok {
		if f, err = s.openSlowly(blobName(kind, key)); err != nil {
			return nil, used, err
		}
	}
	defer f.Close()
	data, err = readBlob(f, kind, key, buf)
	return data, f.used, err
}

// blobFile is open to be read.
type blobFile struct {
	io.ReadCloser
	size int64
	used time.Time
}

// openSlowly opens a blob's file, or tells what is wrong with it.
func (s *Store) openSlowly(name string) (blobFile, error) {
	// Links are not followed, and what is no file is not opened: a FIFO waits for a
	// writer, a device may do anything.
	fi, err := s.root.Lstat(name)
	if err == nil && !fi.Mode().IsRegular() {
		err = damageError("not a file")
	}
	if err != nil {
		return blobFile{}, err
	}
	f, err := s.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return blobFile{}, err
	}
	fi, err = f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = damageError("not a file")
	}
	if err != nil {
		_ = f.Close() // read only: nothing is lost with its error
		return blobFile{}, err
	}
	return blobFile{f, fi.Size(), fi.ModTime()}, nil
}

func readBlob(f blobFile, kind string, key Key, buf []byte) ([]byte, error) {
	length := f.size - int64(headerSize)
	if length < 0 || length > MaxBlob {
		return nil, damageError(fmt.Sprintf("no file of a blob, with %d bytes", f.size))
	}
	head := make([]byte, headerSize)
	if _, err := io.ReadFull(f, head); err != nil {
		return nil, damageError("read: " + patherror.Bare(err).Error())
	}
	want := appendHeader(make([]byte, 0, headerSize), kind, key, length)
	if string(head[:checksumAt]) != string(want) {
		return nil, damageError("damaged, or another blob's, or of another version")
	}
	if int64(cap(buf)) < length || buf == nil {
		buf = make([]byte, length)
	}
	buf = buf[:length]
	if _, err := io.ReadFull(f, buf); err != nil {
		return nil, damageError("read: " + patherror.Bare(err).Error())
	}
	sum := crc32.Update(crc32.Checksum(want, castagnoli), castagnoli, buf)
	if sum != binary.LittleEndian.Uint32(head[checksumAt:]) {
		return nil, damageError("damaged")
	}
	return buf, nil
}

// sealedHeader is the whole of what comes before a content.
func sealedHeader(kind string, key Key, data [][]byte) []byte {
	length := 0
	for _, part := range data {
		length += len(part)
	}
	head := appendHeader(make([]byte, 0, headerSize), kind, key, int64(length))
	sum := crc32.Checksum(head, castagnoli)
	for _, part := range data {
		sum = crc32.Update(sum, castagnoli, part)
	}
	return binary.LittleEndian.AppendUint32(head, sum)
}

// write puts a blob in its place.
func (s *Store) write(kind string, key Key, data [][]byte) error {
	if !validKind(kind) {
		return fmt.Errorf("no such kind: %q", kind)
	}
	name := blobName(kind, key)
	f, temp, err := s.create(path.Dir(name))
	if err != nil {
		return err
	}
	if err = writeParts(f, sealedHeader(kind, key, data), data); err == nil {
		err = s.place(temp, name)
	}
	if err != nil {
		_ = s.root.Remove(temp)
	}
	// Closed, and with that unlocked, last: until then nobody takes it for left over.
	if e := f.Close(); e != nil && err == nil {
		_ = s.root.Remove(name) // a network's disk may be full
		err = e
	}
	return err
}

func writeParts(f *os.File, head []byte, data [][]byte) error {
	_, err := f.Write(head)
	for _, part := range data {
		if err == nil {
			_, err = f.Write(part)
		}
	}
	return err
}

// place gives a temporary file the blob's name.
func (s *Store) place(temp, name string) error {
	err := s.root.Rename(temp, name)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		// Another process may have taken the file for left over before it was locked,
		// or the whole cache was removed, which the next blob finds.
		return nil
	}
	if fi, e := s.root.Lstat(name); e == nil && fi.IsDir() {
		return fmt.Errorf("%s: %w: a directory is in its place", name, errPlace)
	}
	return err
}

// create makes a temporary file, locked to show that its process lives. Whom the cache's
// own directory lets in may read: it can be shared.
func (s *Store) create(dir string) (f *os.File, temp string, err error) {
	temp = fmt.Sprintf("%s/%s%016x", dir, tempPrefix, rand.Uint64())
	open := func() (*os.File, error) {
		return s.root.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	}
	if f, err = open(); errors.Is(err, fs.ErrNotExist) {
		if err = s.root.MkdirAll(dir, 0o777); err == nil {
			s.tag()
			f, err = open()
		}
	}
	if err != nil {
		return nil, "", err
	}
	_ = tryLock(f) // not every file system has locks: see stale
	return f, temp, nil
}

// tag says to backup programs that this is a cache (https://bford.info/cachedir/).
// It is not needed.
func (s *Store) tag() {
	const name, text = "CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n# This is a cache of isopress.\n"
	f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err == nil {
		_, _ = f.WriteString(text)
		_ = f.Close()
	}
}

// stale tells whether the process that wrote a temporary file is gone. The lock says
// so also of a process that is not seen from here, as in a container.
func (s *Store) stale(name string, fi fs.FileInfo) bool {
	if !fi.Mode().IsRegular() {
		return false
	}
	f, err := s.root.OpenFile(name, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	switch err := tryLock(f); {
	case err == nil:
		return true
	case errors.Is(err, errLocked):
		return false
	}
	return time.Since(fi.ModTime()) > staleAge
}

// parseKey reads a blob's key from the names of its directory and file.
func parseKey(dir, file string) (key Key, ok bool) {
	digits := dir + file
	if len(dir) != 2 || len(digits) != hex.EncodedLen(len(key)) || digits != strings.ToLower(digits) {
		return key, false
	}
	_, err := hex.Decode(key[:], []byte(digits))
	return key, err == nil
}
