package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// lifetime of every certificate of a bed.
const lifetime = 30 * 24 * time.Hour

// authority signs certificates and knows where to put them.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
}

// certs writes the keys, certificates and kubeconfigs of one cluster into a folder:
//
//	bedtool certs DIR SERVER_URL CONTROL_PLANE_IP SERVICE_IP [NODE=IP ...]
//
// All keys but the ServiceAccount key are ECDSA P-256, in PKCS 8; that one is RSA 2048, as kubeadm's is, so that
// tokens carry RS256 signatures.
func certs(args []string) error {
	if len(args) < 4 {
		return fmt.Errorf("usage: bedtool certs DIR SERVER_URL CONTROL_PLANE_IP SERVICE_IP [NODE=IP ...]")
	}
	dir, server, controlPlaneIP, serviceIP := args[0], args[1], args[2], args[3]
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ca, err := newAuthority(dir, "ca", "bed-ca")
	if err != nil {
		return err
	}
	frontCA, err := newAuthority(dir, "front-ca", "bed-front-ca")
	if err != nil {
		return err
	}
	if err := serviceAccountKey(dir); err != nil {
		return err
	}
	names := []string{
		"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		"127.0.0.1", controlPlaneIP, serviceIP,
	}
	if err := ca.issue("apiserver", pkix.Name{CommonName: "kube-apiserver"}, names); err != nil {
		return err
	}
	clients := []struct{ file, user, group string }{
		{"apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters"},
		{"admin", "admin", "system:masters"},
		{"coredns", "coredns", "system:masters"},
		{"kwok", "kwok", "system:masters"},
		{"kube-controller-manager", "system:kube-controller-manager", ""},
		{"kube-scheduler", "system:kube-scheduler", ""},
		{"kube-proxy", "system:kube-proxy", ""},
	}
	for _, node := range args[4:] {
		name, ip, ok := strings.Cut(node, "=")
		if !ok || net.ParseIP(ip) == nil {
			return fmt.Errorf("node %q: want NAME=IP", node)
		}
		clients = append(clients, struct{ file, user, group string }{name, "system:node:" + name, "system:nodes"})
		if err := ca.issue(name+"-serving", pkix.Name{CommonName: name}, []string{name, ip}); err != nil {
			return err
		}
	}
	for _, client := range clients {
		subject := pkix.Name{CommonName: client.user}
		if client.group != "" {
			subject.Organization = []string{client.group}
		}
		if err := ca.issue(client.file, subject, nil); err != nil {
			return err
		}
		if err := kubeconfig(dir, client.file, server); err != nil {
			return err
		}
	}
	return frontCA.issue("front-proxy-client", pkix.Name{CommonName: "front-proxy-client"}, nil)
}

// newAuthority makes a certificate authority and writes FILE.crt and FILE.key.
func newAuthority(dir, file, name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(lifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{dir, cert, key}, writePair(dir, file, der, key)
}

// issue signs a certificate for a server (with names, DNS or IP) or a client (without) and writes FILE.crt and FILE.key.
func (a *authority) issue(file string, subject pkix.Name, names []string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(lifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, name := range names {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return err
	}
	return writePair(a.dir, file, der, key)
}

func serviceAccountKey(dir string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, "sa.pub"), "PUBLIC KEY", public); err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, "sa.key"), "PRIVATE KEY", private)
}

// kubeconfig writes FILE.kubeconfig with everything inside it, so that the file can be copied anywhere.
func kubeconfig(dir, file, server string) error {
	encoded := make(map[string]string, 3)
	for _, name := range []string{"ca.crt", file + ".crt", file + ".key"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		encoded[name] = base64.StdEncoding.EncodeToString(data)
	}
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: bed
  cluster:
    server: %s
    certificate-authority-data: %s
users:
- name: %s
  user:
    client-certificate-data: %s
    client-key-data: %s
contexts:
- name: bed
  context: {cluster: bed, user: %s}
current-context: bed
`, server, encoded["ca.crt"], file, encoded[file+".crt"], encoded[file+".key"], file)
	return os.WriteFile(filepath.Join(dir, file+".kubeconfig"), []byte(text), 0o600)
}

func writePair(dir, file string, cert []byte, key crypto.PrivateKey) error {
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, file+".crt"), "CERTIFICATE", cert); err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, file+".key"), "PRIVATE KEY", private)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
