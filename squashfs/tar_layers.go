package squashfs

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
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

// stack shows layers, each over those before it.
func (t *Tar) stack(ctx context.Context, layers []tarLayer) error {
	tree, err := t.impliedDir()
	if err != nil {
		return err
	}
	for _, l := range layers {
		if _, err := t.index(ctx, l.src, tree); err != nil {
			return tarError(l.name, err)
		}
	}
	t.finish(tree)
	return nil
}

// tarLayering is what is known of one layer while its entries are placed in the
// tree of those below. Whiteouts concern the latter only, wherever they come.
type tarLayering struct {
	links  map[tarPlace]bool   // names that the layer gave to files of layers below
	bared  map[*tarNode]bool   // directories that hold nothing of the layers below
	aufs   map[string]*tarNode // files that AUFS kept for hard links, by name
	device string              // the first that looks like a whiteout of overlayfs
	count  int                 // of those
}

// tarPlace is a name in a directory.
type tarPlace struct {
	dir  *tarNode
	name string
}

func newTarLayering() *tarLayering {
	return &tarLayering{links: map[tarPlace]bool{}, bared: map[*tarNode]bool{}, aufs: map[string]*tarNode{}}
}

// placed notes a name that was given to a node.
func (l *tarLayering) placed(layer uint32, dir *tarNode, name string, n *tarNode) {
	if l != nil && n.layer != layer {
		l.links[tarPlace{dir, name}] = true
	}
}

// warn tells of devices that may have been meant for whiteouts.
func (l *tarLayering) warn(warn func(path, msg string)) {
	if l == nil || l.count == 0 || warn == nil {
		return
	}
	warn(l.device, fmt.Sprintf("a character device 0:0, which overlayfs has for a whiteout (%d such files), is kept as a device: in a layer, a file .wh.NAME is a whiteout", l.count))
}

// own tells whether a name in a directory is of the archive that is read; of a
// directory, whether something in it is.
func (x *tarIndexer) own(dir *tarNode, name string, n *tarNode) bool {
	return x.layer == nil || n.layer == x.tar.layer || x.layer.links[tarPlace{dir, name}]
}

// holds tells whether a directory holds something of the archive that is read.
func (x *tarIndexer) holds(dir *tarNode) bool {
	for name, n := range dir.kids {
		if x.own(dir, name, n) {
			return true
		}
	}
	return false
}

// bare takes away what a directory has of the layers below.
func (x *tarIndexer) bare(dir *tarNode) {
	if x.layer.bared[dir] {
		return // so that whiteouts again and again cost nothing
	}
	x.layer.bared[dir] = true
	for name, n := range dir.kids {
		if !x.own(dir, name, n) {
			delete(dir.kids, name)
		} else if n.isDir() {
			x.bareWhole(n)
		}
	}
}

// bareWhole is bare for a directory that is itself taken away below.
func (x *tarIndexer) bareWhole(dir *tarNode) {
	x.bare(dir)
	if dir.entry != x.tar.layer {
		dir.imply()
	}
}

// whiteout does what an entry's name asks for, where it is a whiteout or one of
// AUFS's own files; done is false for all others. Its type means nothing.
func (x *tarIndexer) whiteout(h *tar.Header, name string) (done bool, err error) {
	at := 0
	for part := range strings.SplitSeq(name, "/") {
		at += len(part) + len("/")
		hidden, ok := strings.CutPrefix(part, whiteout)
		if !ok {
			continue
		}
		last := at > len(name)
		switch {
		case part == whiteoutOpaque && last:
			return true, x.hide(name, "")
		case strings.HasPrefix(part, whiteoutMeta):
			return true, x.keepAUFS(h, name)
		case !last || hidden == "" || hidden == "." || hidden == "..":
			return true, fmt.Errorf("%q: a whiteout of nothing", strings.TrimSuffix(name[:at-1], "/"))
		}
		return true, x.hide(name, hidden)
	}
	if h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0 {
		if x.layer.count++; x.layer.device == "" {
			x.layer.device = name
		}
	}
	return false, nil
}

// hide takes away what the layers below have under a name, or, for "", all that
// they have in the directory of the whiteout.
func (x *tarIndexer) hide(whiteout, hidden string) error {
	dir, _, err := x.parent(whiteout)
	if err != nil {
		return err
	}
	if hidden == "" {
		x.dir = tarDirAt{} // links that led there may be gone
		x.bare(dir)
		return nil
	}
	n := dir.kids[hidden]
	switch {
	case n == nil:
	case !x.own(dir, hidden, n):
		x.dir = tarDirAt{}
		delete(dir.kids, hidden)
	case n.isDir():
		x.dir = tarDirAt{}
		x.bareWhole(n)
	}
	return nil
}

// keepAUFS keeps a file of AUFS's for the layer's hard links to it; it is not shown.
func (x *tarIndexer) keepAUFS(h *tar.Header, name string) error {
	if tarKinds[h.Typeflag] != typeFile {
		return nil
	}
	n, err := x.node(h)
	if err != nil {
		return err
	}
	x.layer.aufs[name] = n
	return nil
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
	imageLayout      = "oci-layout"
	maxImageManifest = 1 << 20
	maxImageLayers   = 512 // several times what docker makes; one may be named again and again
)

// Names at the root of an archive that may be a container image.
var imageNames = map[string]bool{imageManifest: true, imageLayout: true}

// expand is the layers of an archive of a container image, or else the archive.
func (t *Tar) expand(ctx context.Context, l tarLayer) ([]tarLayer, error) {
	if !mayBeImage(ctx, l.src) {
		return []tarLayer{l}, nil
	}
	root, err := t.index(ctx, l.src, nil)
	if err != nil { // to be told when it is read as a layer; there a hard link may be in order
		return []tarLayer{l}, nil
	}
	layers, err := t.imageLayers(ctx, root, l.name)
	if layers == nil {
		layers = []tarLayer{l}
	}
	return layers, err
}

// mayBeImage tells whether an archive has what container images have.
func mayBeImage(ctx context.Context, src tarSource) bool {
	r := tar.NewReader(&tarScanner{r: src.r, size: src.size})
	for ctx.Err() == nil {
		h, err := r.Next()
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return false
		}
		if name, err := cleanTarName(h.Name); err == nil && imageNames[name] {
			return true
		}
	}
	return false
}

// imageLayers are the layers of the one image that the archive holds, or nil
// where it is an archive of another kind.
func (t *Tar) imageLayers(ctx context.Context, root *tarNode, archive string) ([]tarLayer, error) {
	images, err := imageManifests(root)
	switch {
	case err != nil:
		return nil, err
	case len(images) == 0:
		return nil, checkLayout(root)
	case len(images) > 1:
		return nil, fmt.Errorf("an archive of %d container images: save one by itself", len(images))
	}
	var names []string
	if err := json.Unmarshal(images[0]["Layers"], &names); err != nil || len(names) == 0 {
		return nil, fmt.Errorf("%s is that of a container image, but names no layers", imageManifest)
	}
	if len(names) > maxImageLayers {
		return nil, fmt.Errorf("%s names %d layers: %d are the most that are read", imageManifest, len(names), maxImageLayers)
	}
	if t.opts.Warn != nil {
		t.opts.Warn(imageManifest, fmt.Sprintf("the archive of a container image: its %d layers go in, not the files of the archive", len(names)))
	}
	var layers []tarLayer
	known := map[*tarNode]tarSource{} // docker links to layers that it has twice
	for _, name := range names {
		n, err := imageLayer(root, name)
		if err != nil {
			return nil, err
		}
		src, ok := known[n]
		if !ok {
			if src, err = t.source(ctx, io.NewSectionReader(n.src.r, n.at, n.size)); err != nil {
				return nil, fmt.Errorf("layer %s: %w", name, err)
			}
			known[n] = src
		}
		layers = append(layers, tarLayer{fmt.Sprintf("%s: layer %s", archive, name), src})
	}
	return layers, nil
}

// imageManifests are the images of docker's list, none where there is no such list.
func imageManifests(root *tarNode) ([]map[string]json.RawMessage, error) {
	n := root.kids[imageManifest]
	if n == nil || n.kind != typeFile || n.sparse || n.size > maxImageManifest {
		return nil, nil
	}
	text := make([]byte, n.size)
	if _, err := n.src.r.ReadAt(text, n.at); err != nil && err != io.EOF {
		return nil, err
	}
	var images []map[string]json.RawMessage
	if json.Unmarshal(text, &images) != nil {
		return nil, nil
	}
	for _, image := range images {
		if image["Config"] == nil && image["Layers"] == nil {
			return nil, nil // such a list can be many things
		}
	}
	return images, nil
}

// imageLayer finds a layer that the manifest names.
func imageLayer(root *tarNode, name string) (*tarNode, error) {
	w := newTarWalk(root)
	if err := w.walk(name, true); err != nil || name == "" {
		return nil, fmt.Errorf("%s names %s, which is not in the archive", imageManifest, name)
	}
	if n := w.at(); n.kind == typeFile && !n.sparse {
		return n, nil
	}
	return nil, fmt.Errorf("%s names %s, which is not a regular file", imageManifest, name)
}

// checkLayout refuses an OCI image layout that has no list of docker's beside
// it: whoever presses one does not want its blobs.
func checkLayout(root *tarNode) error {
	if layout, index := root.kids[imageLayout], root.kids["index.json"]; layout == nil || index == nil {
		return nil
	}
	return errors.New("an OCI image layout: give its layers one by one, in their order, or write it as docker-archive (skopeo copy oci-archive:IN docker-archive:OUT)")
}
