<powershell>
# User data of the builder instance: a listener for WinRM over https, and none without it. The certificate is made
# here and signed by nobody; the way in is the password that EC2Launch v2 made for the holder of the key pair.
$ErrorActionPreference = 'Stop'
Set-Service -Name WinRM -StartupType Automatic
Start-Service -Name WinRM
$Certificate = New-SelfSignedCertificate -DnsName ([System.Net.Dns]::GetHostName()) -CertStoreLocation Cert:\LocalMachine\My -KeyLength 3072 -FriendlyName 'kiln' -NotAfter (Get-Date).AddDays(2)
Get-ChildItem -Path WSMan:\localhost\Listener | Remove-Item -Recurse -Force
New-Item -Path WSMan:\localhost\Listener -Transport HTTPS -Address * -Port 5986 -CertificateThumbPrint $Certificate.Thumbprint -Force | Out-Null
Set-Item -Path WSMan:\localhost\Service\Auth\Basic -Value $false
Set-Item -Path WSMan:\localhost\Service\AllowUnencrypted -Value $false
Set-Item -Path WSMan:\localhost\MaxTimeoutms -Value 7200000
New-NetFirewallRule -Name 'kiln-winrm' -DisplayName 'WinRM of kiln' -Direction Inbound -Protocol TCP -LocalPort 5986 -Action Allow | Out-Null
</powershell>
