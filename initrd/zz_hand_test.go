package initrd

import ("testing";"os";"context";"strings";"bufio")

func TestHand(t *testing.T) {
	out := os.Getenv("HAND_OUT"); if out == "" { t.Skip() }
	var a Archive
	a.Root = os.Getenv("HAND_ROOT")
	want := DefaultModules
	if w := os.Getenv("HAND_WANT"); w != "" { want = strings.Fields(w) }
	if want[0] != "-" {
	m, err := a.AddModules(os.Getenv("HAND_MODULES"), want)
	if err != nil { t.Fatal(err) }
	t.Logf("%+v", m)
	}
	if i := os.Getenv("HAND_INIT"); i != "" { if err := a.AddInit(i); err != nil { t.Fatal(err) } }
	f, _ := os.Create(out); w := bufio.NewWriter(f)
	if err := a.Write(context.Background(), w, Options{Compression: os.Getenv("HAND_COMP")}); err != nil { t.Fatal(err) }
	w.Flush(); f.Close()
}
