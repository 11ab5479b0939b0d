package codec

import (
	"github.com/klauspost/compress/zstd"
)

// denseBlock stores a block that is compressed data already as it is, without
// spending the slow engine's time on it: what the engine would save, a few
// thousandths at most, would cost every reader the time to expand the block.
type denseBlock struct {
	Block
	judge *zstd.Encoder
	buf   []byte
}

// minDense is the size of a block, in bytes, from which on it is worth a look.
const minDense = 64 << 10

// withDense puts the test in front of a slow engine. It is done by the same engine
// in all builds, since the image's bytes depend on it; [Engine] names it.
func withDense(b Block, blockSize int) (Block, error) {
	if blockSize < minDense {
		return b, nil
	}
	judge, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	return &denseBlock{Block: b, judge: judge}, err
}

func (b *denseBlock) Compress(dst, src []byte) ([]byte, error) {
	if len(src) >= minDense && isEven(src) {
		b.buf = b.judge.EncodeAll(src, room(b.buf, Bound(len(src))))
		if len(b.buf) >= len(src)-len(src)>>denseShift {
			return nil, nil
		}
	}
	return b.Block.Compress(dst, src)
}

// denseShift makes 1/1024 of a block what the fastest level must save.
const denseShift = 10

// isEven tells whether all values of a byte are about as frequent, as in data that
// is compressed or encrypted: the sum of the squares of their counts is below
// twice what it is for noise.
func isEven(src []byte) bool {
	var counts [256]uint64
	for _, c := range src {
		counts[c]++
	}
	sum, n := uint64(0), uint64(len(src))
	for _, c := range counts {
		sum += c * c
	}
	return sum < n*n/256*2
}

func (b *denseBlock) Close() {
	_ = b.judge.Close()
	b.Block.Close()
}
