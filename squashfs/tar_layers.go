package squashfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
)

// Names of container layers (OCI image-spec, layer.md).
const (
	whiteout       = ".wh."
	whiteoutMeta   = ".wh..wh." // names that AUFS kept for itself
	whiteoutOpaque = ".wh..wh..opq"
)

// tarLayer is an archive with what errors call it.
type tarLayer struct {
	name string
	src  tarSource
}

// stack indexes layers, each over those before it.
func (t *Tar) stack(ctx context.Context, layers []tarLayer) (*tarNode, error) {
	if t.xattrs.sets == nil {
		t.xattrs = newTar(t.opts).xattrs
	}
	tree := t.impliedDir()
	for _, l := range layers {
		upper, err := t.index(ctx, l.src, tree)
		if err == nil {
			err = t.cover(tree, upper, "")
		}
		if err != nil {
			return nil, tarError(l.name, err)
		}
	}
	return tree, nil
}

// cover puts a directory of a layer over one of the tree below.
func (t *Tar) cover(lower, upper *tarNode, dir string) error {
	if !upper.implied {
		lower.describe(upper)
	}
	if _, opaque := upper.kids[whiteoutOpaque]; opaque {
		lower.kids = nil
	}
	for name, n := range upper.kids {
		hidden, ok := strings.CutPrefix(name, whiteout)
		if !ok || strings.HasPrefix(name, whiteoutMeta) {
			continue
		}
		if hidden == "" || n.kind != typeFile {
			return fmt.Errorf("%q: a whiteout of nothing", dir+name)
		}
		delete(lower.kids, hidden)
	}
	// Sorted, so that of several errors it is always the same that is told.
	for _, name := range slices.Sorted(maps.Keys(upper.kids)) {
		if strings.HasPrefix(name, whiteout) {
			continue
		}
		if err := t.coverName(lower, upper.kids[name], dir, name); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tar) coverName(lower, n *tarNode, dir, name string) error {
	old := lower.kids[name]
	switch {
	case !n.isDir():
		lower.put(name, n)
		return nil
	case n.implied && old != nil && !old.isDir():
		return fmt.Errorf("%q: %w", dir+name, below(dir+name, old))
	case old == nil || !old.isDir():
		old = t.impliedDir()
		lower.put(name, old)
	}
	return t.cover(old, n, dir+name+"/")
}

// warnWhiteouts tells that a single archive's whiteouts are files like others.
func (t *Tar) warnWhiteouts() {
	if t.opts.Warn == nil {
		return
	}
	first, count := "", 0
	t.root.eachName(func(name string, _ *tarNode) {
		if !strings.HasPrefix(path.Base(name), whiteout) {
			return
		}
		if count++; first == "" || name < first {
			first = name
		}
	})
	if count > 0 {
		t.opts.Warn(first, fmt.Sprintf("looks like a container layer's whiteout (%d such files), but is kept as a file: there is no layer below it", count))
	}
}

// The list of a container image's layers, as docker save and its like write it.
const (
	imageManifest    = "manifest.json"
	maxImageManifest = 1 << 20
)

// imageLayers are the layers of the one image that the archive t shows holds, or
// nil where it is an archive of another kind. It is taken for an image only if
// its manifest's layers are all there.
func (t *Tar) imageLayers(ctx context.Context, archive string) ([]tarLayer, error) {
	n := t.root.kids[imageManifest]
	if n == nil || n.kind != typeFile || n.sparse || n.size > maxImageManifest {
		return nil, t.checkLayout()
	}
	text := make([]byte, n.size)
	if _, err := n.src.r.ReadAt(text, n.at); err != nil && err != io.EOF {
		return nil, err
	}
	var images []struct{ Layers []string }
	if json.Unmarshal(text, &images) != nil || len(images) == 0 {
		return nil, t.checkLayout()
	}
	var files []*tarNode
	for _, image := range images {
		for _, name := range image.Layers {
			file, err := t.resolve("open", name, true) // docker links to layers that it has twice
			if err != nil || file.kind != typeFile || file.sparse {
				return nil, t.checkLayout()
			}
			files = append(files, file)
		}
	}
	switch {
	case len(files) == 0:
		return nil, nil
	case len(images) > 1:
		return nil, fmt.Errorf("an archive of %d container images: save one by itself", len(images))
	}
	if t.opts.Warn != nil {
		t.opts.Warn(imageManifest, fmt.Sprintf("the archive of a container image: its %d layers go in, not the files of the archive", len(files)))
	}
	var layers []tarLayer
	for i, file := range files {
		name := fmt.Sprintf("%s: layer %s", archive, images[0].Layers[i])
		src, err := t.source(ctx, io.NewSectionReader(file.src.r, file.at, file.size))
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", images[0].Layers[i], err)
		}
		layers = append(layers, tarLayer{name, src})
	}
	return layers, nil
}

// checkLayout refuses an OCI image layout that has no list of docker's beside
// it: whoever presses one does not want its blobs.
func (t *Tar) checkLayout() error {
	if layout, index := t.root.kids["oci-layout"], t.root.kids["index.json"]; layout == nil || index == nil {
		return nil
	}
	return errors.New("an OCI image layout: give its layers one by one, in their order, or write it as docker-archive (skopeo copy oci-archive:IN docker-archive:OUT)")
}
