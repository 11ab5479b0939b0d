package nix

import (
	"bytes"
	"strings"
	"testing"
)

const (
	pathA = "/nix/store/g1f9m9b4nngh98phm2nspvx4jpjw7gjm-a-1.0"
	pathB = "/nix/store/fkh0kbpqw8gl51jvniq78qgggcajiy5r-b"
	hash  = "e4842018c8ae4e7f17449d434f653a5dee01e38f72fe913cdca8bd4b94b51009"
)

func TestParseRegistration(t *testing.T) {
	dump := pathA + "\n" + hash + "\n12\n\n0\n" + pathB + "\n" + hash + "\n3\n" + pathB + ".drv\n2\n" + pathA + "\n" + pathB + "\n"
	infos, err := ParseRegistration(strings.NewReader(dump))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(FormatRegistration(infos)); got != dump {
		t.Errorf("round trip:\n%s\nwant\n%s", got, dump)
	}
	for _, form := range []string{
		"sha256:" + hash,
		"sha256-5IQgGMiuTn8XRJ1DT2U6Xe4B449y/pE83Ki9S5S1EAk=",
		"sha256:028hnna4pgd8vhy93zkjizih3vjx79jlyhwx8hbpykmfr0c21174",
	} {
		infos, err := ParseRegistration(strings.NewReader(pathA + "\n" + form + "\n12\n\n0\n"))
		if err != nil || infos[0].NarHash != hash {
			t.Errorf("%s: %v, %v", form, infos, err)
		}
	}
}

func TestParseRegistrationErrors(t *testing.T) {
	for text, want := range map[string]string{
		"/etc/passwd\n":                                              "line 1: \"/etc/passwd\" is not a store path",
		pathA + "\nabc\n":                                            "NAR hash \"abc\"",
		pathA + "\n" + hash + "\n-1\n":                               "NAR size",
		pathA + "\n" + hash + "\n1\n\n1\n":                           "ends within the entry of " + pathA,
		pathA + "\n" + hash + "\n1\n\n1\nfoo\n":                      "\"foo\" is not a store path",
		pathA + "\n" + hash + "\n1\n\n99999999999999999999\n":        "number of references",
		pathA + "\n" + strings.Repeat("x", maxLine) + "\n":           "token too long",
		pathA + "\n" + hash + "\n1\n\n9223372036854775806\n" + pathB: "ends within",
	} {
		_, err := ParseRegistration(strings.NewReader(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: error %v, want one with %q", text, err, want)
		}
	}
}

func FuzzParseRegistration(f *testing.F) {
	f.Add([]byte(pathA + "\n" + hash + "\n12\n\n1\n" + pathB + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		infos, err := ParseRegistration(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := ParseRegistration(bytes.NewReader(FormatRegistration(infos)))
		if err != nil || len(again) != len(infos) {
			t.Fatalf("not read back: %v", err)
		}
	})
}
