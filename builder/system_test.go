package builder

import (
	"reflect"
	"strings"
	"testing"
)

// spec is a bootspec as nixpkgs writes it, with what else its object holds.
func spec(toplevel, label, more string) string {
	return `{"org.nixos.bootspec.v1": {"system": "x86_64-linux", "label": "` + label + `", "kernel": "` + linux + `/bzImage",
		"kernelParams": ["p=` + label + `"], "init": "` + toplevel + `/init", "toplevel": "` + toplevel + `"}` + more + `}`
}

func TestSpecialisations(t *testing.T) {
	variants := `, "org.nixos.specialisation.v1": {"on the road": ` + spec(linux, "road", `, "org.nixos.specialisation.v1": {}`) +
		`, "": ` + spec(top, "nameless", "") + `}`
	c := testClosure(t, with(nixos, map[string]string{top + "/boot.json": spec(top, "NixOS", variants)}))
	s, err := readSystem(c, top)
	if err != nil {
		t.Fatal(err)
	}
	base := system{toplevel: top, kernel: linux + "/bzImage", modules: top + "/kernel-modules", init: top + "/init"}
	nameless, road := base, base
	nameless.label, nameless.params = "nameless", []string{"p=nameless"}
	road.label, road.params = "road", []string{"p=road"}
	road.toplevel, road.init, road.modules = linux, linux+"/init", ""
	want := base
	want.label, want.params = "NixOS", []string{"p=NixOS"}
	want.specialisations = []specialisation{{"", nameless}, {"on the road", road}}
	if !reflect.DeepEqual(*s, want) {
		t.Errorf("%+v, want %+v", *s, want)
	}
}

func TestSpecialisationErrors(t *testing.T) {
	for name, tc := range map[string]struct{ variant, err string }{
		"empty":   {`{}`, `/boot.json: specialisation "v": no kernel and init`},
		"absent":  {spec(absent, "a", ""), `specialisation "v": its toplevel "` + absent + `" is not in the closure`},
		"nowhere": {spec("", "a", ""), `its toplevel "" is not in the closure`},
		"no list": {`[]`, "cannot unmarshal"},
	} {
		text := spec(top, "NixOS", `, "org.nixos.specialisation.v1": {"v": `+tc.variant+`}`)
		c := testClosure(t, with(nixos, map[string]string{top + "/boot.json": text}))
		if _, err := readSystem(c, top); err == nil || !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%s: error %v, want one with %q", name, err, tc.err)
		}
	}
}
