<powershell>
# User data of the builder instance: WinRM over https and nothing else. The certificate is made here and signed by
# nobody; the way in is the random password that EC2Launch v2 gives to the holder of the key pair alone.
$ErrorActionPreference = 'Stop'
$Port = 5986
Set-Service -Name WinRM -StartupType Automatic
Start-Service -Name WinRM
$Certificate = New-SelfSignedCertificate -DnsName ([System.Net.Dns]::GetHostName()) -CertStoreLocation Cert:\LocalMachine\My -KeyLength 3072 -FriendlyName 'kiln' -NotAfter (Get-Date).AddDays(2)
Get-ChildItem -Path WSMan:\localhost\Listener | Remove-Item -Recurse -Force
New-Item -Path WSMan:\localhost\Listener -Transport HTTPS -Address * -Port $Port -CertificateThumbPrint $Certificate.Thumbprint -Force | Out-Null
Set-Item -Path WSMan:\localhost\Service\Auth\Basic -Value $false
Set-Item -Path WSMan:\localhost\Service\AllowUnencrypted -Value $false
New-NetFirewallRule -Name 'kiln-winrm' -DisplayName 'WinRM of kiln' -Direction Inbound -Protocol TCP -LocalPort $Port -Action Allow | Out-Null

# What users get must have none of this: EC2Launch v2 runs this file of its own right before sysprep.
$Before = Join-Path -Path $env:ProgramData -ChildPath 'Amazon\EC2Launch\sysprep\BeforeSysprep.cmd'
$Leave = Join-Path -Path $env:ProgramData -ChildPath 'kiln\leave.ps1'
New-Item -Path (Split-Path -Path $Leave) -ItemType Directory -Force | Out-Null
Set-Content -Path $Leave -Encoding UTF8 -Value @'
$ErrorActionPreference = 'Stop'
Remove-NetFirewallRule -Name 'kiln-winrm'
Get-ChildItem -Path WSMan:\localhost\Listener | Remove-Item -Recurse -Force
Get-ChildItem -Path Cert:\LocalMachine\My | Where-Object -FilterScript { $_.FriendlyName -eq 'kiln' } | Remove-Item -Force
Set-Service -Name WinRM -StartupType Manual
Remove-Item -Path $PSCommandPath -Force
'@
Add-Content -Path $Before -Encoding ASCII -Value "`r`npowershell.exe -NoProfile -ExecutionPolicy Bypass -File `"$Leave`"`r`nif errorlevel 1 exit /b 1"
</powershell>
