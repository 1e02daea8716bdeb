// An EDS server, as one writes it with go-control-plane: it gives the endpoints that it is told on
// its standard input to whoever asks for them, state of the world and delta.
//
//	eds_server -port 18000
//	nginx_cluster 8001 8002     from now on these are its endpoints; answered with the line itself
//	? nginx_cluster             how many wait for news of it; answered with the number
//
// It ends with its input. What it leaves to others: every other kind of resource, and saying when.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	service "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
)

// Endpoints of a cluster, on loopback.
func assignment(cluster string, ports []string) (*endpoint.ClusterLoadAssignment, error) {
	var endpoints []*endpoint.LbEndpoint
	for _, text := range ports {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return nil, err
		}
		socket := &core.SocketAddress{
			Address:       "127.0.0.1",
			PortSpecifier: &core.SocketAddress_PortValue{PortValue: uint32(port)},
		}
		address := &core.Address{Address: &core.Address_SocketAddress{SocketAddress: socket}}
		endpoints = append(endpoints, &endpoint.LbEndpoint{
			HostIdentifier: &endpoint.LbEndpoint_Endpoint{
				Endpoint: &endpoint.Endpoint{Address: address},
			},
		})
	}
	return &endpoint.ClusterLoadAssignment{
		ClusterName: cluster,
		Endpoints:   []*endpoint.LocalityLbEndpoints{{LbEndpoints: endpoints}},
	}, nil
}

// Does what a line says, and gives the answer.
func follow(line string, assignments *cache.LinearCache) (string, error) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return "", fmt.Errorf("a line is the name of a cluster and the ports of its endpoints")
	}
	if words[0] == "?" && len(words) == 2 {
		return strconv.Itoa(assignments.NumWatches(words[1])), nil
	}
	made, err := assignment(words[0], words[1:])
	if err != nil {
		return "", err
	}
	return line, assignments.UpdateResource(words[0], made)
}

func main() {
	port := flag.Uint("port", 18000, "where it listens, on loopback")
	flag.Parse()
	// Versions of one life are none of another one: who comes back with an old one is told anew.
	life := fmt.Sprintf("%d-", time.Now().UnixNano())
	assignments := cache.NewLinearCache(resource.EndpointType, cache.WithVersionPrefix(life))
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", *port))
	if err != nil {
		log.Fatal(err)
	}
	served := grpc.NewServer()
	eds := server.NewServer(context.Background(), assignments, nil)
	service.RegisterEndpointDiscoveryServiceServer(served, eds)
	go func() { log.Fatal(served.Serve(listener)) }()

	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		answer, err := follow(lines.Text(), assignments)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(answer)
	}
}
