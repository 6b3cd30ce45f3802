package api

import "maps"

// Needs is the table of authorisation, for the test that compares it with what is registered.
func Needs() map[string]Role { return maps.Clone(needs) }

// Registered returns the full names of all methods of the operators' port.
func (s *Server) Registered() []string {
	var all []string
	for service, info := range s.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			all = append(all, "/"+service+"/"+m.Name)
		}
	}
	return all
}

// Limits of the ports.
const (
	MaxReceive = maxReceive
	MaxHeaders = maxHeaders
)

// StopTimeout bounds a stop.
const StopTimeout = stopTimeout

// Write prints the page.
func (m *Metrics) Write(w interface{ Write([]byte) (int, error) }) { m.write(w) }
