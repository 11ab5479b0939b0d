package codec

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"unsafe"
)

// lzmaWriter is an xz stream with a CRC32, the only check that Linux knows.
type lzmaWriter struct {
	lib     *lzmaFunctions
	w       io.Writer
	stream  lzmaStream
	filters [2]lzmaFilter
	options lzmaOptions
	out     [64 << 10]byte
	pinner  runtime.Pinner
	err     error
}

func newLZMAWriter(lib *lzmaFunctions, w io.Writer, s Spec) (io.WriteCloser, error) {
	z := &lzmaWriter{lib: lib, w: w}
	z.pinner.Pin(z)
	if lib.preset(unsafe.Pointer(&z.options), uint32(s.Level)) != 0 {
		z.pinner.Unpin()
		return nil, lzmaError(8)
	}
	if s.Dictionary != 0 {
		z.options.dictSize = uint32(s.Dictionary)
	}
	z.filters = [2]lzmaFilter{{lzmaFilterLZMA2, uintptr(unsafe.Pointer(&z.options))}, {id: lzmaFilterEnd}}
	if ret := lib.encoder(unsafe.Pointer(&z.stream), unsafe.Pointer(&z.filters), lzmaCheckCRC32); ret != lzmaOK {
		z.pinner.Unpin()
		return nil, lzmaError(ret)
	}
	return z, nil
}

func (z *lzmaWriter) Write(p []byte) (int, error) {
	if z.err == nil && len(p) > 0 {
		z.err = z.run(p, lzmaRun)
	}
	if z.err != nil {
		return 0, z.err
	}
	return len(p), nil
}

// run passes p through the encoder, and writes what comes out.
func (z *lzmaWriter) run(p []byte, action int32) error {
	var pinner runtime.Pinner
	defer pinner.Unpin()
	if len(p) > 0 {
		pinner.Pin(&p[0])
	}
	z.stream.nextIn, z.stream.availIn = uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p))
	for {
		z.stream.nextOut, z.stream.availOut = uintptr(unsafe.Pointer(&z.out)), uintptr(len(z.out))
		ret := z.lib.code(unsafe.Pointer(&z.stream), action)
		if ret != lzmaOK && ret != lzmaStreamEnd {
			return lzmaError(ret)
		}
		n := len(z.out) - int(z.stream.availOut)
		if m, err := z.w.Write(z.out[:n]); err != nil {
			return err
		} else if m < n {
			return fmt.Errorf("xz: %w", io.ErrShortWrite)
		}
		if ret == lzmaStreamEnd || action == lzmaRun && z.stream.availIn == 0 {
			return nil
		}
	}
}

func (z *lzmaWriter) Close() error {
	if errors.Is(z.err, errClosed) {
		return nil
	}
	err := z.err
	if err == nil {
		err = z.run(nil, lzmaFinish)
	}
	z.lib.end(unsafe.Pointer(&z.stream))
	z.pinner.Unpin()
	z.err = errClosed
	return err
}

var errClosed = errors.New("codec: write after Close")
