package iso

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// saidBefore are texts that are no last words.
var saidBefore = []string{"isopress: loading Linux", " starting"}

// provoked is what tests have the stubs say, by the test.
func provoked() (bios, uefi map[string]string) {
	bios, uefi = map[string]string{}, map[string]string{}
	for _, tt := range biosCases {
		bios["TestBIOSLoads/"+tt.name] = tt.want
	}
	for _, tt := range deviceCases {
		bios["TestBIOSDevices/"+tt.name] = tt.want
	}
	for i, tt := range uefiCases {
		uefi[fmt.Sprintf("TestUEFI, uefiCases %02d", i)] = uefiWord(tt.text, tt.status)
	}
	for i, tt := range damagedUEFI {
		uefi[fmt.Sprintf("TestUEFI, damagedUEFI %d", i)] = uefiWord(tt.text, tt.status)
	}
	return bios, uefi
}

// The stubs have no last words that no test has read in QEMU.
func TestLastWords(t *testing.T) {
	bios, uefi := provoked()
	for _, tt := range []struct {
		source string
		words  int
		cases  map[string]string
	}{
		{"console.asm", 1, bios},
		{"mbr.asm", 3, bios},
		{"stage2.asm", 9, bios},
		{"uefi.asm", 13, uefi},
	} {
		source, err := os.ReadFile(tt.source)
		if err != nil {
			t.Fatal(err)
		}
		words := 0
		for _, word := range texts(string(source)) {
			if slices.Contains(saidBefore, word) {
				continue
			}
			words++
			wantProvoked(t, tt.source, word, tt.cases)
		}
		if words < tt.words {
			t.Errorf("%s: found %d words of %d", tt.source, words, tt.words)
		}
	}
	meanings := meant(t)
	for status, word := range meanings {
		number := fmt.Sprintf(" (EFI status 0x%016X)", uint64(efiError|status))
		wantProvoked(t, "uefi.asm", word+number, uefi)
	}
	if len(meanings) < 6 {
		t.Errorf("found meanings of %d statuses", len(meanings))
	}
}

// wantProvoked looks for a test in which a stub says a word, and logs it.
func wantProvoked(t *testing.T, source, word string, cases map[string]string) {
	t.Helper()
	var by []string
	for name, said := range cases {
		if strings.Contains(said, word) {
			by = append(by, name)
		}
	}
	slices.Sort(by)
	if len(by) == 0 {
		t.Errorf("%s: no test provokes %q", source, word)
		return
	}
	t.Logf("%s: %q: %s", source, word, by[0])
}

var (
	dataLine   = regexp.MustCompile("(?m)^ *(?:\\w+ +)?d[bw] +(.*)$")
	quotedText = regexp.MustCompile("'[^']*'|\"[^\"]*\"|`[^`]*`")
	meaning    = regexp.MustCompile(`(?m)^    meaning (\d+), (\w+)`)
)

// texts are the strings in a source that people read: those of words.
func texts(source string) []string {
	var found []string
	for _, line := range dataLine.FindAllStringSubmatch(source, -1) {
		for _, quoted := range quotedText.FindAllString(line[1], -1) {
			text := quoted[1 : len(quoted)-1]
			if quoted[0] == '`' {
				text = strings.NewReplacer(`\r`, "\r", `\n`, "\n").Replace(text)
			}
			text = strings.TrimPrefix(strings.TrimLeft(text, "\r\n"), ")\r\n") // the end of a status
			if strings.Contains(text, " ") {
				found = append(found, text)
			}
		}
	}
	return found
}

// meant is what the UEFI stub says that statuses mean.
func meant(t *testing.T) map[uint64]string {
	t.Helper()
	source, err := os.ReadFile("uefi.asm")
	if err != nil {
		t.Fatal(err)
	}
	found := map[uint64]string{}
	for _, m := range meaning.FindAllStringSubmatch(string(source), -1) {
		status, err := strconv.ParseUint(m[1], 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		text := regexp.MustCompile("(?m)^" + m[2] + " .*`(.*)`").FindSubmatch(source)
		if text == nil {
			t.Fatalf("no text %s", m[2])
		}
		found[status] = string(text[1])
	}
	return found
}
