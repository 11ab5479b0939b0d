package qemu

import (
	"bufio"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"time"
)

// screenshotTime bounds the wait for QEMU's answer. It counts from the run's end, deadline or not.
const screenshotTime = 10 * time.Second

// screenshot writes the guest's screen to path as PNG. QEMU itself writes PNG only since 7.1, and not
// in every build; PPM it always could.
func (m *monitor) screenshot(tempDir, path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), screenshotTime)
	defer cancel()
	ppm := filepath.Join(tempDir, "screen.ppm")
	if err := m.execute(ctx, "screendump", map[string]any{"filename": ppm}); err != nil {
		return fmt.Errorf("qemu: screenshot: %w", err)
	}
	f, err := os.Open(ppm)
	if err != nil {
		return fmt.Errorf("qemu: screenshot: %w", err)
	}
	defer f.Close()
	img, err := decodePPM(f)
	if err != nil {
		return fmt.Errorf("qemu: screenshot: %w", err)
	}
	return writePNG(path, img)
}

// decodePPM reads a binary portable pixmap as QEMU writes it: "P6\n<width> <height>\n255\n", then RGB.
func decodePPM(r io.Reader) (image.Image, error) {
	br := bufio.NewReader(r)
	var width, height, max int
	if _, err := fmt.Fscanf(br, "P6\n%d %d\n%d\n", &width, &height, &max); err != nil {
		return nil, fmt.Errorf("ppm header: %w", err)
	}
	if width < 1 || height < 1 || width > 1<<14 || height > 1<<14 || max != 255 {
		return nil, fmt.Errorf("ppm of %d x %d with maximum %d", width, height, max)
	}
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	row := make([]byte, 3*width)
	for y := range height {
		if _, err := io.ReadFull(br, row); err != nil {
			return nil, fmt.Errorf("ppm row %d: %w", y, err)
		}
		for x := range width {
			img.SetRGBA(x, y, color.RGBA{row[3*x], row[3*x+1], row[3*x+2], 255})
		}
	}
	return img, nil
}

// writePNG puts the image in place by renaming, so that there is never half a file.
func writePNG(path string, img image.Image) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".screenshot-*.png")
	if err != nil {
		return fmt.Errorf("qemu: screenshot: %w", err)
	}
	defer os.Remove(f.Name())
	err = png.Encode(f, img)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("qemu: screenshot: %w", err)
	}
	return nil
}
