package main

import (
	"strings"
	"testing"
)

const (
	first  = "01K0000000000000000000000A"
	second = "01K0000000000000000000000B"
)

func begun(id string) string {
	return `101 pwrite64(5</tmp/x/actor/journal>, "\0\0\3\210\17\333\5\1{\"kind\":\"started\",\"put\":{\"id\":\"` + id + `\",\"resource\":\"cpu:x"..., 904, 8) = 904`
}

func wrote(text string) string {
	return `102 write(7</sys/fs/cgroup/cpu/evenkeel-soak-1/batch/cpu.shares>, "` + text + `", 3) = 3`
}

func TestDeeds(t *testing.T) {
	for name, c := range map[string]struct {
		lives          [][]string
		writes, wrongs int
		doubles        int
	}{
		"applied and taken back": {[][]string{{begun(first), wrote("102"), wrote("1024"), begun(second), wrote("102")}, {wrote("1024")}}, 2, 0, 0},
		"killed before the end of a call": {
			[][]string{{begun(first), `102 write(7</sys/fs/cgroup/cpu/evenkeel-soak-1/batch/cpu.shares>, "102", 3 <unfinished ...>`}, {wrote("1024")}}, 1, 0, 0,
		},
		"run again after a start":   {[][]string{{begun(first), wrote("102"), wrote("1024")}, {wrote("102")}}, 2, 0, 1},
		"written twice":             {[][]string{{begun(first), wrote("102"), wrote("102")}}, 2, 1, 1},
		"begun twice":               {[][]string{{begun(first)}, {begun(first), wrote("102")}}, 1, 0, 1},
		"written without a command": {[][]string{{wrote("102")}}, 1, 1, 0},
		"another value":             {[][]string{{begun(first), wrote("2048")}}, 0, 1, 0},
		"another group":             {[][]string{{`9 write(7</sys/fs/cgroup/cpu/other/cpu.shares>, "102", 3) = 3`}}, 0, 1, 0},
		"a mask":                    {[][]string{{`9 sched_setaffinity(77, 8, [0]) = 0`}}, 0, 1, 0},
		"other writes":              {[][]string{{`9 write(2</tmp/x/log/actor>, "102", 3) = 3`, `9 +++ killed by SIGKILL +++`}}, 0, 0, 0},
	} {
		var d deeds
		for _, life := range c.lives {
			if err := d.read(strings.NewReader(strings.Join(life, "\n")), name, "102", "1024"); err != nil {
				t.Fatal(err)
			}
		}
		if d.writes() != c.writes || len(d.wrong) != c.wrongs || len(d.doubles()) != c.doubles {
			t.Errorf("%s: %d writes, wrong %v, doubles %v", name, d.writes(), d.wrong, d.doubles())
		}
	}
}

func TestMasks(t *testing.T) {
	const set, ended = `9 sched_setaffinity(77, 128, [1]) = 0`, `101 pwrite64(5</tmp/x/actor/journal>, "\0\0\0\1\2\3\4\5{\"kind\":\"reverted\",\"drop\":\"process.affinity:x"..., 300, 9) = 300`
	for name, c := range map[string]struct {
		lives                    [][]string
		writes, wrongs, restores int
		doubles                  int
		held                     bool
	}{
		"applied and taken back":    {[][]string{{begun(first), set, set, set, ended}}, 1, 0, 1, 0, false},
		"taken back after a start":  {[][]string{{begun(first), set}, {set, ended}}, 1, 0, 1, 0, false},
		"narrowed without command":  {[][]string{{begun(first), set, ended, set}}, 1, 1, 1, 0, false},
		"begun again after a start": {[][]string{{begun(first), set, ended}, {begun(first), set, ended}}, 2, 0, 2, 2, false},
		"never taken back":          {[][]string{{begun(first), set}}, 1, 0, 0, 0, true},
		"a cgroup":                  {[][]string{{begun(first), wrote("102")}}, 0, 1, 0, 0, true},
	} {
		var d deeds
		for _, life := range c.lives {
			if err := d.read(strings.NewReader(strings.Join(life, "\n")), name, "", ""); err != nil {
				t.Fatal(err)
			}
		}
		if d.writes() != c.writes || len(d.wrong) != c.wrongs || d.restores != c.restores || len(d.doubles()) != c.doubles || d.held != c.held {
			t.Errorf("%s: %d writes, %d restores, held %t, wrong %v, doubles %v", name, d.writes(), d.restores, d.held, d.wrong, d.doubles())
		}
	}
}

func TestSamplesAreHeldAgainstTheStore(t *testing.T) {
	var s samples
	stored := map[int64]float64{1: 0.5, 2: 7}
	s.check(stored, "x", 1, 0.5)
	s.check(stored, "x", 2, 8)
	s.check(stored, "x", 3, 1)
	if s.checked != 3 || s.missing != 1 || s.different != 1 || len(s.first) != 2 {
		t.Errorf("%+v", s)
	}
}
