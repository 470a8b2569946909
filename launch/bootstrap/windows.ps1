#Requires -Version 5.1
#Requires -RunAsAdministrator
# Run once on an AppStream image builder: makes the account and the listener by which Ansible comes in, here and
# on every builder made from this one's image. It asks for the password, so that none stands in a file.
[CmdletBinding()]
param()

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$User = '@USER@'
$Port = @PORT@
$Folder = Join-Path -Path $env:ProgramData -ChildPath 'kiln-builder'

# ---- the account
$Password = Read-Host -Prompt "Password of $User, the one that secret in kiln.toml refers to" -AsSecureString
if ($null -eq (Get-LocalUser -Name $User -ErrorAction SilentlyContinue)) {
    New-LocalUser -Name $User -Password $Password -PasswordNeverExpires -AccountNeverExpires -Description 'Ansible of kiln' | Out-Null
} else {
    Set-LocalUser -Name $User -Password $Password -PasswordNeverExpires $true
}
$Administrators = Get-LocalGroup -SID 'S-1-5-32-544'
if (-not (Get-LocalGroupMember -Group $Administrators | Where-Object -FilterScript { $_.Name -like "*\$User" })) {
    Add-LocalGroupMember -Group $Administrators -Member $User
}
# Without this an administrator who comes over the network is a plain user.
$Policies = 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System'
New-ItemProperty -Path $Policies -Name 'LocalAccountTokenFilterPolicy' -Value 1 -PropertyType DWord -Force | Out-Null

# ---- the listener: made at every start, since the certificate of one machine is not another's
New-Item -Path $Folder -ItemType Directory -Force | Out-Null
icacls.exe $Folder /inheritance:r /grant '*S-1-5-18:(OI)(CI)F' '*S-1-5-32-544:(OI)(CI)F' | Out-Null
Set-Content -Path (Join-Path -Path $Folder -ChildPath 'listen.ps1') -Encoding UTF8 -Value @'
$ErrorActionPreference = 'Stop'
Set-Service -Name WinRM -StartupType Automatic
Start-Service -Name WinRM
$Name = [System.Net.Dns]::GetHostName()
$Old = Get-ChildItem -Path Cert:\LocalMachine\My | Where-Object -FilterScript { $_.FriendlyName -eq 'kiln' }
$Old | Remove-Item -Force
$Certificate = New-SelfSignedCertificate -DnsName $Name -CertStoreLocation Cert:\LocalMachine\My -KeyLength 3072 -FriendlyName 'kiln' -NotAfter (Get-Date).AddDays(30)
Get-ChildItem -Path WSMan:\localhost\Listener | Where-Object -FilterScript { $_.Keys -contains 'Transport=HTTPS' } | Remove-Item -Recurse -Force
New-Item -Path WSMan:\localhost\Listener -Transport HTTPS -Address * -Port @PORT@ -CertificateThumbPrint $Certificate.Thumbprint -Force | Out-Null
Get-ChildItem -Path WSMan:\localhost\Listener | Where-Object -FilterScript { $_.Keys -contains 'Transport=HTTP' } | Remove-Item -Recurse -Force
Set-Item -Path WSMan:\localhost\Service\Auth\Basic -Value $false
Set-Item -Path WSMan:\localhost\Service\AllowUnencrypted -Value $false
if ($null -eq (Get-NetFirewallRule -Name 'kiln-winrm' -ErrorAction SilentlyContinue)) {
    New-NetFirewallRule -Name 'kiln-winrm' -DisplayName 'WinRM of kiln' -Direction Inbound -Protocol TCP -LocalPort @PORT@ -Action Allow | Out-Null
}
'@

# ---- the way out: an image that users get must have none of this
Set-Content -Path (Join-Path -Path $Folder -ChildPath 'leave.ps1') -Encoding UTF8 -Value @'
param([switch] $AtNextStart)
$ErrorActionPreference = 'Stop'
$Run = 'powershell.exe'
if ($AtNextStart) {
    $Action = New-ScheduledTaskAction -Execute $Run -Argument "-NoProfile -ExecutionPolicy Bypass -File `"$PSCommandPath`""
    $Trigger = New-ScheduledTaskTrigger -AtStartup
    Register-ScheduledTask -TaskName 'kiln-leave' -Action $Action -Trigger $Trigger -User 'SYSTEM' -RunLevel Highest -Force | Out-Null
    Unregister-ScheduledTask -TaskName 'kiln-listen' -Confirm:$false -ErrorAction SilentlyContinue
    return
}
Stop-Service -Name WinRM -Force -ErrorAction SilentlyContinue
Set-Service -Name WinRM -StartupType Disabled
Remove-NetFirewallRule -Name 'kiln-winrm' -ErrorAction SilentlyContinue
Remove-LocalUser -Name '@USER@' -ErrorAction SilentlyContinue
Remove-ItemProperty -Path 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System' -Name 'LocalAccountTokenFilterPolicy' -ErrorAction SilentlyContinue
Get-ChildItem -Path Cert:\LocalMachine\My | Where-Object -FilterScript { $_.FriendlyName -eq 'kiln' } | Remove-Item -Force
Unregister-ScheduledTask -TaskName 'kiln-leave' -Confirm:$false
Remove-Item -Path $PSScriptRoot -Recurse -Force
'@

$Listen = Join-Path -Path $Folder -ChildPath 'listen.ps1'
$Action = New-ScheduledTaskAction -Execute 'powershell.exe' -Argument "-NoProfile -ExecutionPolicy Bypass -File `"$Listen`""
$Trigger = New-ScheduledTaskTrigger -AtStartup
Register-ScheduledTask -TaskName 'kiln-listen' -Action $Action -Trigger $Trigger -User 'SYSTEM' -RunLevel Highest -Force | Out-Null
& $Listen

Write-Output "Ready: $User may come in over WinRM at port $Port. kiln goes on by itself; close this session."
