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
	got, err := s.readSpecialisations()
	nameless := system{toplevel: top, kernel: linux + "/bzImage", init: top + "/init", label: "nameless", params: []string{"p=nameless"}}
	road := system{toplevel: linux, kernel: linux + "/bzImage", init: linux + "/init", label: "road", params: []string{"p=road"}}
	if want := []specialisation{{"", nameless}, {"on the road", road}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

func TestSpecialisationErrors(t *testing.T) {
	for name, tc := range map[string]struct{ variants, err string }{
		"empty":     {`{"v": {}}`, `/boot.json: specialisation "v": no kernel and init`},
		"no object": {`{"v": []}`, `/boot.json: specialisation "v": json: cannot unmarshal`},
		"no list":   {`[]`, "org.nixos.specialisation.v1: json: cannot unmarshal"},
		"none":      {`{}`, ""},
		"null":      {`null`, ""},
	} {
		text := spec(top, "NixOS", `, "org.nixos.specialisation.v1": `+tc.variants)
		s, err := readSystem(testClosure(t, with(nixos, map[string]string{top + "/boot.json": text})), top)
		if err != nil {
			t.Fatalf("%s: without a menu: %v", name, err)
		}
		_, err = s.readSpecialisations()
		if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%s: error %v, want one with %q", name, err, tc.err)
		}
	}
}
