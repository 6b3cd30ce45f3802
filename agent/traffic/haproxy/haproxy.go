package haproxy

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/evenkeel/evenkeel/agent/traffic"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// knob holds what all settings of a server have in common.
type knob struct{ setting string }

// Able is always so: which sockets there are is the permissions' word.
func (knob) Able() error { return nil }

// Name names the setting, not the action: drain and maint turn the same one.
func (k knob) Name(t command.Target) string { return t.String() + "/" + k.setting }

// Permit asks whether the socket may change things.
func (knob) Permit(ctx context.Context, t command.Target, _ traffic.Reading) error {
	answer, err := ask(ctx, t.HAProxy.Socket, "show cli level")
	if err != nil {
		return err
	}
	if level := strings.TrimSpace(answer); level != "admin" {
		return command.Refuse(command.ReasonNotReversible, "socket %s has level %q: HAProxy changes servers at `level admin` only", t.HAProxy.Socket, clip(level))
	}
	return nil
}

// Epoch asks which worker answers.
func (knob) Epoch(ctx context.Context, t command.Target) (string, error) {
	answer, err := ask(ctx, t.HAProxy.Socket, "show info")
	if err != nil {
		return "", err
	}
	return epoch(parseInfo(answer))
}

// set sends a command. What HAProxy answers is why it may not have worked.
func set(ctx context.Context, t command.Target, line string) error {
	answer, err := ask(ctx, t.HAProxy.Socket, line)
	if err != nil {
		return err
	}
	if said := strings.TrimSpace(answer); said != "" {
		return command.Refuse(command.ReasonNoEffect, "HAProxy says: %s", clip(said))
	}
	return nil
}

func at(t command.Target) string { return t.HAProxy.Backend + "/" + t.HAProxy.Server }

// look reads the worker first and last, so that a reading is of one worker.
func look(ctx context.Context, t command.Target, question string) (answer string, info map[string]string, worker string, err error) {
	for range 3 {
		var text string
		if text, err = ask(ctx, t.HAProxy.Socket, "show info"); err != nil {
			return
		}
		info = parseInfo(text)
		if worker, err = epoch(info); err != nil {
			return
		}
		if answer, err = ask(ctx, t.HAProxy.Socket, question); err != nil {
			return
		}
		if text, err = ask(ctx, t.HAProxy.Socket, "show info"); err != nil {
			return
		}
		var after string
		if after, err = epoch(parseInfo(text)); err != nil || after == worker {
			return
		}
	}
	err = fmt.Errorf("HAProxy on %s is being reloaded", t.HAProxy.Socket)
	return
}

func readServer(ctx context.Context, t command.Target) (server, string, error) {
	answer, _, worker, err := look(ctx, t, "show servers state "+t.HAProxy.Backend)
	if err != nil {
		return server{}, "", err
	}
	s, err := parseServer(answer, t.HAProxy.Backend, t.HAProxy.Server)
	return s, worker, err
}

type weight struct{ knob }

// Weight is haproxy.weight: the absolute weight of a server, 1 to 256.
func Weight() traffic.Actuator { return traffic.Actuator{Knob: weight{knob{"weight"}}} }

func (weight) Read(ctx context.Context, t command.Target) (traffic.Reading, error) {
	s, worker, err := readServer(ctx, t)
	return traffic.Reading{Native: strconv.FormatInt(s.weight, 10), Value: s.weight, Epoch: worker}, err
}

// Permit leaves a server alone that somebody took out by its weight.
func (w weight) Permit(ctx context.Context, t command.Target, now traffic.Reading) error {
	if now.Value == 0 {
		return command.Refuse(command.ReasonPriorDiffers, "server %s has weight 0: somebody took it out of service", at(t))
	}
	return w.knob.Permit(ctx, t, now)
}

func (weight) Native(value int64, _ string) (string, error) { return strconv.FormatInt(value, 10), nil }

func (weight) Set(ctx context.Context, t command.Target, native string) error {
	return set(ctx, t, "set server "+at(t)+" weight "+native)
}

// The states of a server as the socket sets them.
const (
	ready = "ready"
	drain = "drain"
	maint = "maint"
)

type state struct {
	knob
	to string
}

// Drain is haproxy.drain: no new sessions but those that stick to the server.
func Drain() traffic.Actuator { return traffic.Actuator{Knob: state{knob{"state"}, drain}} }

// Maint is haproxy.maint: the server is out of service.
func Maint() traffic.Actuator { return traffic.Actuator{Knob: state{knob{"state"}, maint}} }

func (state) Read(ctx context.Context, t command.Target) (traffic.Reading, error) {
	s, worker, err := readServer(ctx, t)
	r := traffic.Reading{Native: ready, Epoch: worker}
	switch {
	case s.admin&forcedMaint != 0 && s.admin&configMaint != 0:
		r.Native = maint + " by configuration"
	case s.admin&forcedMaint != 0:
		r.Native = maint
	case s.admin&forcedDrain != 0:
		r.Native = drain
	case s.admin&(inheritedMaint|inheritedDrain) != 0:
		r.Native = "with the server that it tracks"
	}
	if r.Native != ready {
		r.Value = 1
	}
	return r, err
}

// Permit acts on a server in service only: what somebody else took out is not ours to put back.
func (s state) Permit(ctx context.Context, t command.Target, now traffic.Reading) error {
	if now.Native != ready {
		return command.Refuse(command.ReasonPriorDiffers, "server %s is %s already", at(t), now.Native)
	}
	return s.knob.Permit(ctx, t, now)
}

// Native of 0 is the server in service, as a gradual release may ask for.
func (s state) Native(value int64, prior string) (string, error) {
	if value == 0 {
		return prior, nil
	}
	return s.to, nil
}

func (state) Set(ctx context.Context, t command.Target, native string) error {
	return set(ctx, t, "set server "+at(t)+" state "+native)
}

type maxconn struct{ knob }

// MaxConn is haproxy.maxconn: how many connections HAProxy makes to a server; the others wait in its queue.
func MaxConn() traffic.Actuator { return traffic.Actuator{Knob: maxconn{knob{"maxconn"}}} }

const unlimited = "unlimited"

func (maxconn) Read(ctx context.Context, t command.Target) (traffic.Reading, error) {
	answer, info, worker, err := look(ctx, t, "show stat "+t.HAProxy.Backend+" 4 -1")
	if err != nil {
		return traffic.Reading{}, err
	}
	n, err := parseLimit(answer, t.HAProxy.Backend, t.HAProxy.Server)
	if err != nil {
		return traffic.Reading{}, err
	}
	r := traffic.Reading{Native: strconv.FormatInt(n, 10), Value: n, Epoch: worker}
	if n == 0 {
		// No bound of its own: the process's is the one that holds, and the end of a gradual release.
		r.Native = unlimited
		r.Value, _ = strconv.ParseInt(info["Maxconn"], 10, 64)
	}
	return r, nil
}

func (maxconn) Native(value int64, _ string) (string, error) {
	return strconv.FormatInt(value, 10), nil
}

func (maxconn) Set(ctx context.Context, t command.Target, native string) error {
	if native == unlimited {
		native = "0"
	}
	return set(ctx, t, "set maxconn server "+at(t)+" "+native)
}
