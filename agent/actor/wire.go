package actor

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/evenkeel/evenkeel/pkg/command"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// maxFrame is the longest frame on the socket, in bytes.
const maxFrame = 1 << 20

var errFrame = errors.New("frame is empty, over the limit, or no message")

func readFrame(r io.Reader) (*agentv1.ActorFrame, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxFrame {
		return nil, errFrame
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	f := &agentv1.ActorFrame{}
	if err := proto.Unmarshal(b, f); err != nil {
		return nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	return f, nil
}

func writeFrame(w io.Writer, f *agentv1.ActorFrame) error {
	b := make([]byte, 4, 256)
	b, err := proto.MarshalOptions{}.MarshalAppend(b, f)
	if err != nil {
		return err
	}
	if len(b)-4 > maxFrame || len(b) == 4 {
		return errFrame
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	_, err = w.Write(b)
	return err
}

func resultFrame(r command.Result) *agentv1.ActorFrame {
	return &agentv1.ActorFrame{Frame: &agentv1.ActorFrame_Result{Result: r.Proto()}}
}

func reportFrame(b []byte) *agentv1.ActorFrame {
	return &agentv1.ActorFrame{Frame: &agentv1.ActorFrame_Report{Report: b}}
}

func capabilitiesFrame(c Capabilities) (*agentv1.ActorFrame, error) {
	b, err := json.Marshal(c)
	return &agentv1.ActorFrame{Frame: &agentv1.ActorFrame_CapabilitiesJson{CapabilitiesJson: string(b)}}, err
}

func outcomeFrame(results []command.Result, err error) *agentv1.ActorFrame {
	out := &agentv1.RevertOutcome{}
	for _, r := range results {
		out.Results = append(out.Results, r.Proto())
	}
	if err != nil {
		out.Problem = err.Error()
	}
	return &agentv1.ActorFrame{Frame: &agentv1.ActorFrame_RevertOutcome{RevertOutcome: out}}
}

// AskCapabilities asks the actor that listens on a socket.
func AskCapabilities(socket string, patience time.Duration) (Capabilities, error) {
	var c Capabilities
	f, err := ask(socket, patience, &agentv1.ActorFrame{Frame: &agentv1.ActorFrame_Capabilities{Capabilities: &agentv1.CapabilitiesAsked{}}})
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal([]byte(f.GetCapabilitiesJson()), &c)
}

// AskRevert has the actor that listens on a socket give back one command's change, or all with an empty id.
func AskRevert(socket, id string, patience time.Duration) ([]command.Result, error) {
	f, err := ask(socket, patience, &agentv1.ActorFrame{Frame: &agentv1.ActorFrame_Revert{Revert: &agentv1.RevertOrder{All: id == "", Id: id}}})
	if err != nil {
		return nil, err
	}
	var out []command.Result
	for _, p := range f.GetRevertOutcome().GetResults() {
		r, err := command.ResultFromProto(p)
		if err != nil {
			return out, err
		}
		out = append(out, r)
	}
	if problem := f.GetRevertOutcome().GetProblem(); problem != "" {
		return out, errors.New(problem)
	}
	return out, nil
}

func ask(socket string, patience time.Duration, question *agentv1.ActorFrame) (*agentv1.ActorFrame, error) {
	conn, err := net.DialTimeout("unix", socket, patience)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if err := writeFrame(conn, question); err != nil {
		return nil, err
	}
	return readFrame(conn)
}
