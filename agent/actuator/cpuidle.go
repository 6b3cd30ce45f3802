package actuator

import (
	"fmt"
	"os"
	"path"
)

// idleSetting is cpu.idle: the group runs only while none of its siblings wants the CPU. The kernel gives an idle group
// the least weight, and the neutral one when it is taken back, so the weight that it had is kept beside it.
// Native text is "1", or "0" and the weight.
type idleSetting struct{ weight string } // the file of the weight

func (idleSetting) file() string { return "cpu.idle" }

func (s idleSetting) also() []string { return []string{s.weight} }

func (s idleSetting) read(root *os.Root, group string) (string, error) {
	idle, err := readText(root, path.Join(group, s.file()))
	if err != nil || idle != "0" {
		return idle, err
	}
	weight, err := readText(root, path.Join(group, s.weight))
	return idle + " " + weight, err
}

func (s idleSetting) write(root *os.Root, group, native string) error {
	var idle, weight string
	if n, _ := fmt.Sscan(native, &idle, &weight); n == 0 {
		return fmt.Errorf("cpu.idle cannot be %q", native)
	}
	if err := writeText(root, path.Join(group, s.file()), idle); err != nil || weight == "" {
		return err
	}
	return writeText(root, path.Join(group, s.weight), weight)
}

func (idleSetting) native(int64, former) (string, error) { return "1", nil }

func (idleSetting) value(native, _ string) (int64, error) {
	if native == "1" {
		return 1, nil
	}
	return 0, nil
}
