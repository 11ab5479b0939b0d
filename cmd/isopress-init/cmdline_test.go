package main

import (
	"reflect"
	"testing"
	"time"

	"github.com/isopress/isopress/internal/kcmdline"
)

func TestParseCmdline(t *testing.T) {
	base := config{timeout: defaultTimeout}
	with := func(f func(*config)) config {
		c := base
		f(&c)
		return c
	}
	for _, tc := range []struct {
		name, line string
		want       config
	}{
		{"empty", "", base},
		{"label", "quiet root=LABEL=NIXOS init=/nix/store/x/init ro\n",
			with(func(c *config) { c.label, c.init = "NIXOS", "/nix/store/x/init" })},
		{"last wins", "root=LABEL=A init=/a root=LABEL=B init=/b",
			with(func(c *config) { c.label, c.init = "B", "/b" })},
		{"escape", `root=LABEL=MY\x20DISC\x2`, with(func(c *config) { c.label = `MY DISC\x2` })},
		{"by-label", `root=/dev/disk/by-label/MY\x20DISC`, with(func(c *config) { c.label = "MY DISC" })},
		{"quoted value", `root="LABEL=MY DISC" quiet`, with(func(c *config) { c.label = "MY DISC" })},
		{"quoted word", `"root=LABEL=MY DISC" quiet`, with(func(c *config) { c.label = "MY DISC" })},
		{"quote within", `x=a" init=/no "b root=LABEL=A`, with(func(c *config) { c.label = "A" })},
		{"open quote", `root=LABEL=A "init=/x y`, with(func(c *config) { c.label, c.init = "A", "/x y" })},
		{"device", "root=/dev/sr0", with(func(c *config) { c.device = "sr0" })},
		{"ours", "isopress.timeout=5 isopress.debug panic=-1",
			with(func(c *config) { c.timeout, c.debug, c.panic = 5*time.Second, true, -1 })},
		{"to RAM", "copytoram", with(func(c *config) { c.copy = true })},
		{"to RAM, archiso's way", "copytoram=y", with(func(c *config) { c.copy = true })},
		{"to RAM, another way", "copytoram=n copytoram=1", with(func(c *config) { c.copy = true })},
		{"to RAM if it fits", "copytoram=auto", with(func(c *config) { c.copy = true })},
		{"not to RAM", "copytoram copytoram=n", base},
		{"not to RAM either", "copytoram copytoram=0", base},
		{"no debug", "isopress.debug=0", base},
		{"after --", "root=LABEL=A -- root=LABEL=B init=/x", with(func(c *config) { c.label = "A" })},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, errs := parseCmdline(tc.line)
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			got.blacklist, got.modParams = nil, nil
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("%q:\ngot  %+v\nwant %+v", tc.line, got, tc.want)
			}
		})
	}
}

func TestParseCmdlineErrors(t *testing.T) {
	for _, line := range []string{
		"root=UUID=1", "root=/dev/", "root=/dev/..", "root=/dev/mapper/x", "root=",
		"panic=soon", "copytoram=", "copytoram=maybe", "isopress.timeout=-1", "isopress.timeout=1h",
	} {
		c, errs := parseCmdline(line)
		if len(errs) != 1 {
			t.Errorf("%q: %d errors: %v", line, len(errs), errs)
		}
		if c.timeout != defaultTimeout || c.copy || c.check() == nil {
			t.Errorf("%q: %+v", line, c)
		}
	}
}

func TestModuleParams(t *testing.T) {
	c, errs := parseCmdline(`usb-storage.quirks=1:2:u usb_storage.delay_use=0 loop.flag ` +
		`dyn.x="a b" console=ttyS0 isopress.other=1 .x=1 modprobe.blacklist=hv-vmbus,uas module_blacklist=vmd`)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	want := map[string][]string{
		"usb_storage": {"quirks=1:2:u", "delay_use=0"},
		"loop":        {"flag"},
		"dyn":         {`x="a b"`},
	}
	if !reflect.DeepEqual(c.modParams, want) {
		t.Errorf("got %q, want %q", c.modParams, want)
	}
	if !reflect.DeepEqual(c.blacklist, map[string]bool{"hv_vmbus": true, "uas": true, "vmd": true}) {
		t.Errorf("blacklist %v", c.blacklist)
	}
}

func TestInitArgs(t *testing.T) {
	given := []string{"single", "copytoram", "copytoramx", "-x"}
	if got := initArgs(given); !reflect.DeepEqual(got, []string{"single", "copytoramx", "-x"}) || given[1] != "copytoram" {
		t.Errorf("%q of %q", got, given)
	}
}

func FuzzParseCmdline(f *testing.F) {
	f.Add(`root=LABEL=A\x20B init=/x "quoted word" k="v w" -- rest`)
	f.Add("\"=\"\"\t\n\\x")
	f.Fuzz(func(t *testing.T, line string) {
		c, _ := parseCmdline(line)
		if c.timeout < 0 {
			t.Errorf("timeout %v", c.timeout)
		}
		if c.label != "" && c.device != "" {
			t.Errorf("both label %q and device %q", c.label, c.device)
		}
		// A label that was read comes back by the way we tell people to write it.
		if c.label != "" {
			again, errs := parseCmdline("root=LABEL=" + kcmdline.Escape(c.label))
			if len(errs) > 0 || again.label != c.label {
				t.Errorf("%q became %q, %v", c.label, again.label, errs)
			}
		}
	})
}
