// Makes the certificate of an admission webhook and keeps it in a Secret.
//
// Charts of some add-ons run a script for this before anything else, which needs a shell, openssl
// and kubectl in the image. This program takes the script's place and its options.
package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"time"
)

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

func main() {
	service := flag.String("service", "", "the webhook's Service")
	namespace := flag.String("namespace", "default", "where Service and Secret are")
	secret := flag.String("secret", "", "the Secret to create")
	flag.Parse()
	if *service == "" || *secret == "" {
		log.Fatal("--service and --secret are needed")
	}
	data, err := certificates(*service, *namespace)
	if err == nil {
		err = create(*namespace, *secret, data)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// certificates returns ca.crt, tls.crt and tls.key, each PEM.
func certificates(service, namespace string) (map[string][]byte, error) {
	name := fmt.Sprintf("%s.%s.svc", service, namespace)
	now := time.Now()
	authority := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    authority.NotBefore,
		NotAfter:     authority.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{service, service + "." + namespace, name},
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serverKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	public := &authorityKey.PublicKey
	top, err := x509.CreateCertificate(rand.Reader, authority, authority, public, authorityKey)
	if err != nil {
		return nil, err
	}
	public = &serverKey.PublicKey
	leaf, err := x509.CreateCertificate(rand.Reader, server, authority, public, authorityKey)
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(serverKey)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		"ca.crt":  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: top}),
		"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf}),
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	}, nil
}

// create makes the Secret; one that is there already was made for the same Service and stays.
func create(namespace, name string, data map[string][]byte) error {
	token, err := os.ReadFile(account + "token")
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	bundle, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return err
	}
	roots.AppendCertsFromPEM(bundle)
	body, err := json.Marshal(map[string]any{
		"apiVersion": "v1",
		"kind":       "Secret",
		"metadata":   map[string]string{"name": name},
		"data":       data,
	})
	if err != nil {
		return err
	}
	host := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	url := fmt.Sprintf("https://%s/api/v1/namespaces/%s/secrets", host, namespace)
	request, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	request.Header.Set("Content-Type", "application/json")
	client := &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}},
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusCreated && answer.StatusCode != http.StatusConflict {
		text, _ := io.ReadAll(answer.Body)
		return fmt.Errorf("the API server refused the Secret: %s: %s", answer.Status, text)
	}
	return nil
}
