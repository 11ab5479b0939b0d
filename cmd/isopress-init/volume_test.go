package main

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"
)

func pvd(id string) []byte {
	b := make([]byte, pvdSize)
	copy(b, "\x01CD001\x01")
	copy(b[pvdIDOffset:], id+strings.Repeat(" ", pvdIDSize))
	return b
}

func TestVolumeID(t *testing.T) {
	full := strings.Repeat("x", pvdIDSize)
	for _, tc := range []struct {
		name string
		in   []byte
		id   string
		ok   bool
	}{
		{"plain", pvd("NIXOS"), "NIXOS", true},
		{"space within", pvd("MY DISC"), "MY DISC", true},
		{"full", pvd(full), full, true},
		{"NUL padded", append(pvd("")[:pvdIDOffset], append([]byte("A"), make([]byte, 31)...)...), "A", true},
		{"empty", pvd(""), "", true},
		{"nothing", nil, "", false},
		{"short", pvd("NIXOS")[:60], "", false},
		{"zeros", make([]byte, pvdSize), "", false},
		{"supplementary", append([]byte{2}, pvd("JOLIET")[1:]...), "", false},
	} {
		if id, ok := volumeID(tc.in); id != tc.id || ok != tc.ok {
			t.Errorf("%s: got %q, %v", tc.name, id, ok)
		}
	}
}

func FuzzVolumeID(f *testing.F) {
	f.Add(pvd("NIXOS"))
	f.Add([]byte("\x01CD001"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, ok := volumeID(b); !ok && id != "" || len(id) > pvdIDSize {
			t.Errorf("%q, %v", id, ok)
		}
	})
}

func names(devs []device) (s []string) {
	for _, d := range devs {
		s = append(s, d.name)
	}
	return s
}

func TestCandidates(t *testing.T) {
	vol := func(name, parent, label string) device {
		return device{name: name, parent: parent, state: stateVolume, label: label}
	}
	plain := device{name: "vda", state: stateUnusable}
	pending := device{name: "sda", state: statePending}
	for _, tc := range []struct {
		name    string
		cfg     config
		devs    []device
		want    []string
		settled bool
	}{
		{"none", config{label: "A"}, nil, nil, true},
		{"disk before its partition", config{label: "A"},
			[]device{vol("sda1", "sda", "A"), vol("sda", "", "A"), plain}, []string{"sda", "sda1"}, true},
		{"partition alone", config{label: "A"}, []device{vol("sda1", "sda", "A")}, []string{"sda1"}, true},
		{"partition while the disk is read", config{label: "A"},
			[]device{vol("sda1", "sda", "A"), pending}, []string{"sda1"}, false},
		{"a later one is read", config{label: "A"},
			[]device{vol("sr0", "", "A"), {name: "vda", state: statePending}}, []string{"sr0"}, true},
		{"twins by name", config{label: "A"},
			[]device{vol("sdaa", "", "A"), vol("sdb", "", "A"), vol("sdc", "", "B")}, []string{"sdb", "sdaa"}, true},
		{"by device", config{device: "vda"}, []device{vol("sr0", "", ""), plain}, []string{"vda"}, true},
		{"an empty label fits nothing by device", config{device: "vdb"}, []device{vol("sr0", "", "")}, nil, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found, settled := candidates(&tc.cfg, tc.devs)
			if !reflect.DeepEqual(names(found), tc.want) || settled != tc.settled {
				t.Errorf("got %v, %v; want %v, %v", names(found), settled, tc.want, tc.settled)
			}
		})
	}
}

func TestIgnored(t *testing.T) {
	for name, want := range map[string]bool{
		"loop0": true, "ram15": true, "zram0": true, "fd0": true, "nbd12": true,
		"sda": false, "sr0": false, "nvme0n1": false, "mmcblk0": false, "dm-0": false, "fdx": false,
	} {
		if ignored(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

func TestModuleLines(t *testing.T) {
	got := moduleLines("/lib/a.ko\n\n/lib/b-c.ko a x\n")
	want := []moduleLine{{"/lib/a.ko", []string{}}, {"/lib/b-c.ko", []string{"a", "x"}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
	if n := moduleOf(got[1].path); n != "b_c" {
		t.Errorf("name %q", n)
	}
}

func TestVersionOf(t *testing.T) {
	for file, want := range map[string]string{
		"/lib/modules/6.1.0/kernel/a.ko": "6.1.0", "/lib/modules/a.ko": "", "/a.ko": "", "": "",
	} {
		if got := versionOf(file); got != want {
			t.Errorf("%q: %q", file, got)
		}
	}
}

func TestThreadsOption(t *testing.T) {
	for release, want := range map[string]bool{
		"6.1.0-56-amd64": false, "6.2.0": true, "6.12.30": true, "7.0-rc1": true, "5.15.1": false, "": false, "six": false,
	} {
		if threadsOption(release) != want {
			t.Errorf("%q: %v", release, !want)
		}
	}
}

func TestHints(t *testing.T) {
	other := device{name: "sr0", state: stateVolume, label: "MY DISC"}
	for _, tc := range []struct {
		name string
		cfg  config
		err  error
		devs []device
		mods modules
		want string // in one of the hints, "" for no hint
	}{
		{"no root", config{}, errNoRoot, []device{other}, modules{1, "6.1"}, `root=LABEL=MY\x20DISC`},
		{"another label", config{label: "A"}, errors.New("x"), []device{other}, modules{1, "6.1"}, `root=LABEL=MY\x20DISC, if /dev/sr0`},
		{"no device, no module", config{label: "A"}, errors.New("x"), nil, modules{}, "this one has none"},
		{"no device", config{label: "A"}, errors.New("x"), nil, modules{9, "6.1"}, "the module of the controller"},
		{"too long", config{label: strings.Repeat("L", 33)}, errors.New("x"), nil, modules{9, "6.1"}, "ISO 9660 holds 32"},
		{"medium is there", config{label: "MY DISC"}, errors.New("x"), []device{other}, modules{1, "6.1"}, ""},
		{"unreadable", config{label: "MY DISC", copy: true}, fmt.Errorf("x: %w", &readError{err: io.EOF}), []device{other}, modules{1, "6.1"}, "without copytoram"},
		{"another kernel's", config{label: "MY DISC"}, errors.New("x"), []device{other}, modules{1, "6.2"}, "the modules of kernel 6.1: this one has those of 6.2"},
	} {
		got := strings.Join(hints(&tc.cfg, tc.err, tc.devs, tc.mods, "6.1"), "\n")
		if !strings.Contains(got, tc.want) || tc.want == "" && got != "" {
			t.Errorf("%s: %q", tc.name, got)
		}
	}
}

func TestNotFound(t *testing.T) {
	c := config{label: "A"}
	bad := device{name: "sr0", state: stateVolume, label: "A", why: "no image"}
	if got := notFound(&c, []device{bad}, time.Second).Error(); !strings.Contains(got, "cannot be used: sr0: ") || !strings.Contains(got, "no image") {
		t.Errorf("%s", got)
	}
	if got := notFound(&c, []device{{name: "sda"}}, 60*time.Second).Error(); !strings.HasSuffix(got, "was not found in 60 s") {
		t.Errorf("%s", got)
	}
	if h := hints(&c, errors.New("x"), []device{bad}, modules{}, ""); h != nil {
		t.Errorf("%q", h)
	}
}

func TestDeviceString(t *testing.T) {
	for _, tc := range []struct {
		d    device
		want string
	}{
		{device{name: "sda"}, "sda: is still being read"},
		{device{name: "sda", state: stateUnusable, why: "not ISO 9660"}, "sda: not ISO 9660"},
		{device{name: "sr0", state: stateVolume, label: "A"}, `sr0: ISO 9660, volume ID "A"`},
		{device{name: "sr0", state: stateVolume, label: "A", why: "bad"}, `sr0: ISO 9660, volume ID "A": bad`},
	} {
		if got := tc.d.String(); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}
