package squashfs

import (
	"io"
	"io/fs"
)

// TreeEntry is a file of a tree that a [TreeCheck] sees.
type TreeEntry struct {
	Depth  int         // below the path of the tree, which has 0
	Name   string      // in its directory; "" for the path itself
	Mode   fs.FileMode // type and permissions
	Size   int64       // of a regular file, in bytes
	Target string      // of a symbolic link
}

// TreeCheck sees a tree while it is read for the plan: its files depth first, those of a
// directory sorted by name.
//
// After an error it sees no more of the tree, which [Options.Trees] does not keep;
// [Options.Warn] is told of the error.
type TreeCheck interface {
	// WriteHeader begins the next file.
	WriteHeader(TreeEntry) error
	// Write gets the content of a regular file.
	io.Writer
	// Close ends the tree. An error says that it is not what its key says.
	Close() error
}

// treeTask is a tree that one worker hashes as a whole.
type treeTask struct {
	keptTree
	path  string
	size  int64     // of its contents, in bytes
	check TreeCheck // nil where it is not to be kept
}

// check is what an option wants to see of a tree; nil is nothing.
func (x *indexer) check(path string) TreeCheck {
	if x.opts.TreeCheck == nil {
		return nil
	}
	return x.opts.TreeCheck(path)
}

// hashTree reads a tree's files one after the other, past its check.
func (x *indexer) hashTree(h *hasher, t *treeTask) error {
	v := &treeVisit{h: h, check: t.check}
	if err := v.node(t.node, "", 0); err != nil {
		return err
	}
	if v.check == nil && v.refused == nil {
		return nil // only read
	}
	if v.check != nil {
		v.refused = v.check.Close()
	}
	if v.refused != nil {
		x.report.warn(t.path, v.refused.Error())
		return nil
	}
	x.files.mu.Lock()
	defer x.files.mu.Unlock()
	x.trees = append(x.trees, t.keptTree)
	return nil
}

// treeVisit shows a tree to its check.
type treeVisit struct {
	h       *hasher
	check   TreeCheck // nil once it has refused the tree
	refused error
}

func (v *treeVisit) node(n *inode, name string, depth int) error {
	entry := TreeEntry{Depth: depth, Name: name, Mode: fileMode(n.kind, n.mode), Target: n.target}
	if n.kind == typeFile {
		entry.Size = n.content.size
	}
	if v.check != nil {
		v.refuse(v.check.WriteHeader(entry))
	}
	if n.kind == typeFile {
		v.h.also = v
		defer func() { v.h.also = nil }()
		return v.h.hash(n)
	}
	for _, e := range n.children() {
		if e.node.dir != n || e.node.name != e.name {
			continue // a hard link; there is no check then
		}
		if err := v.node(e.node, e.name, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// Write shows content to the check.
func (v *treeVisit) Write(b []byte) (int, error) {
	if v.check != nil {
		_, err := v.check.Write(b)
		v.refuse(err)
	}
	return len(b), nil
}

func (v *treeVisit) refuse(err error) {
	if err != nil {
		v.check, v.refused = nil, err
	}
}
