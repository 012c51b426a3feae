; Rooftop's installer for Windows: for one user, without administrator rights. windows_package.py defines
; VERSION, VERSION_NUMBERS, PAYLOAD (the app's folder), ICON, SIZE_KB and OUTPUT.
;
; Files are unpacked beside an older version's and take its place by two renames at the end, which fail as long as
; Rooftop runs: whatever goes wrong before leaves the older version as it was.
; Exit codes: 0 done, 1 the user gave up, 2 not possible here, 3 Rooftop is running (2 and 3 in silent mode).
Target amd64-unicode
ManifestDPIAware true
ManifestLongPathAware true
SetCompressor /SOLID lzma
SetCompressorDictSize 64
RequestExecutionLevel user
Name "Rooftop"
OutFile "${OUTPUT}"
InstallDir "$LOCALAPPDATA\Programs\Rooftop"
InstallDirRegKey HKCU "Software\Rooftop" "Folder"
BrandingText "Rooftop ${VERSION}"
VIProductVersion "${VERSION_NUMBERS}"
VIAddVersionKey "ProductName" "Rooftop"
VIAddVersionKey "FileDescription" "Rooftop Setup"
VIAddVersionKey "FileVersion" "${VERSION}"
VIAddVersionKey "ProductVersion" "${VERSION}"
VIAddVersionKey "LegalCopyright" "Apache License 2.0"

!include MUI2.nsh
!include FileFunc.nsh
!include LogicLib.nsh
!include WinVer.nsh
!include x64.nsh

!define UNINSTALL_KEY "Software\Microsoft\Windows\CurrentVersion\Uninstall\Rooftop"
!define MUI_ICON "${ICON}"
!define MUI_UNICON "${ICON}"
!define MUI_ABORTWARNING
!define MUI_COMPONENTSPAGE_NODESC
!define MUI_FINISHPAGE_RUN "$INSTDIR\rooftop.exe"
!insertmacro MUI_PAGE_DIRECTORY
!insertmacro MUI_PAGE_COMPONENTS
!insertmacro MUI_PAGE_INSTFILES
!insertmacro MUI_PAGE_FINISH
!insertmacro MUI_UNPAGE_CONFIRM
!insertmacro MUI_UNPAGE_INSTFILES
!insertmacro MUI_LANGUAGE "English"
!insertmacro MUI_LANGUAGE "German"

LangString OLD_WINDOWS ${LANG_ENGLISH} "Rooftop needs 64-bit Windows 10, version 1809, or newer. Please update Windows first."
LangString OLD_WINDOWS ${LANG_GERMAN} "Rooftop braucht Windows 10 (64 Bit), Version 1809, oder neuer. Bitte aktualisieren Sie zuerst Windows."
LangString NOT_EMPTY ${LANG_ENGLISH} "The folder $INSTDIR holds other files. Choose an empty or a new folder."
LangString NOT_EMPTY ${LANG_GERMAN} "Der Ordner $INSTDIR enthält andere Dateien. Wählen Sie einen leeren oder neuen Ordner."
LangString NO_SPACE ${LANG_ENGLISH} "There is not enough space on this drive: Rooftop needs about 1 GB. Free some space or choose another drive."
LangString NO_SPACE ${LANG_GERMAN} "Auf diesem Laufwerk ist nicht genug Platz: Rooftop braucht etwa 1 GB. Schaffen Sie Platz oder wählen Sie ein anderes Laufwerk."
LangString RUNNING ${LANG_ENGLISH} "Rooftop is running, or another program holds one of its files. Close Rooftop, then choose Retry."
LangString RUNNING ${LANG_GERMAN} "Rooftop läuft noch, oder ein anderes Programm hält eine seiner Dateien fest. Schließen Sie Rooftop, und wählen Sie Wiederholen."
LangString NOT_WRITTEN ${LANG_ENGLISH} "A file could not be written to $INSTDIR. Check the free space and your antivirus program, then try again. Nothing was changed."
LangString NOT_WRITTEN ${LANG_GERMAN} "Eine Datei konnte nicht nach $INSTDIR geschrieben werden. Prüfen Sie den freien Platz und Ihren Virenschutz, und versuchen Sie es erneut. Nichts wurde geändert."
LangString APP ${LANG_ENGLISH} "Rooftop"
LangString APP ${LANG_GERMAN} "Rooftop"
LangString DESKTOP_ICON ${LANG_ENGLISH} "Icon on the desktop"
LangString DESKTOP_ICON ${LANG_GERMAN} "Symbol auf dem Desktop"
LangString MODEL_FILE ${LANG_ENGLISH} "Language model"
LangString MODEL_FILE ${LANG_GERMAN} "Sprachmodell"
LangString DELETE_DATA ${LANG_ENGLISH} "Also delete your chats, settings and the models that Rooftop downloaded into $LOCALAPPDATA\rooftop?$\r$\n$\r$\nThis cannot be undone."
LangString DELETE_DATA ${LANG_GERMAN} "Auch Ihre Chats, Einstellungen und die Modelle löschen, die Rooftop nach $LOCALAPPDATA\rooftop heruntergeladen hat?$\r$\n$\r$\nDas lässt sich nicht rückgängig machen."

!macro SAY_AND_QUIT text code
  MessageBox MB_OK|MB_ICONSTOP "${text}" /SD IDOK
  SetErrorLevel ${code}
  Quit
!macroend

; Waits until the user has closed Rooftop, which holds a mutex as long as it runs (app/windows_process.py); in silent mode
; looks once. The renaming below would fail too, but only after minutes of unpacking.
!macro WAIT_UNTIL_CLOSED
  ${Do}
    System::Call 'kernel32::OpenMutexW(i 0x100000, i 0, w "RooftopIsRunning") p .r0'
    ${If} $0 P= 0
      ${Break}
    ${EndIf}
    System::Call 'kernel32::CloseHandle(p r0)'
    ${If} ${Cmd} `MessageBox MB_RETRYCANCEL|MB_ICONEXCLAMATION "$(RUNNING)" /SD IDCANCEL IDCANCEL`
      SetErrorLevel 3
      Quit
    ${EndIf}
  ${Loop}
!macroend

; Renames FROM to TO as soon as nobody holds a file in FROM; in silent mode tries once.
!macro RENAME_WHEN_FREE from to undo
  ${Do}
    ClearErrors
    Rename "${from}" "${to}"
    ${IfNot} ${Errors}
      ${Break}
    ${EndIf}
    ${If} ${Cmd} `MessageBox MB_RETRYCANCEL|MB_ICONEXCLAMATION "$(RUNNING)" /SD IDCANCEL IDCANCEL`
      ${undo}
      SetErrorLevel 3
      Quit
    ${EndIf}
  ${Loop}
!macroend

Function .onInit
  SetShellVarContext current
  ${IfNot} ${RunningX64}
  ${OrIfNot} ${AtLeastBuild} 17763
    !insertmacro SAY_AND_QUIT "$(OLD_WINDOWS)" 2
  ${EndIf}
FunctionEnd

; Nothing of the user's may lie in a folder that an uninstaller will empty.
Function CheckFolder
  ${If} ${FileExists} "$INSTDIR\*.*"
  ${AndIfNot} ${FileExists} "$INSTDIR\uninstall.exe"
    RMDir "$INSTDIR" ; goes only if it is empty
    ${If} ${FileExists} "$INSTDIR\*.*"
      !insertmacro SAY_AND_QUIT "$(NOT_EMPTY)" 2
    ${EndIf}
  ${EndIf}
  ${GetRoot} "$INSTDIR" $0
  ${DriveSpace} "$0\" "/D=F /S=K" $1
  ${If} $1 < ${SIZE_KB}
    !insertmacro SAY_AND_QUIT "$(NO_SPACE)" 2
  ${EndIf}
FunctionEnd

Section "$(APP)" SectionApp
  SectionIn RO
  AddSize ${SIZE_KB}
  Call CheckFolder
  !insertmacro WAIT_UNTIL_CLOSED
  RMDir /r "$INSTDIR\new" ; of an installation that did not end
  RMDir /r "$INSTDIR\old"
  ClearErrors
  SetOutPath "$INSTDIR\new"
  File /r "${PAYLOAD}\*"
  ${If} ${Errors}
    SetOutPath "$TEMP"
    RMDir /r "$INSTDIR\new"
    RMDir "$INSTDIR"
    !insertmacro SAY_AND_QUIT "$(NOT_WRITTEN)" 2
  ${EndIf}
  SetOutPath "$INSTDIR"
  CreateDirectory "$INSTDIR\old"
  ${If} ${FileExists} "$INSTDIR\python\*.*"
    !insertmacro RENAME_WHEN_FREE "$INSTDIR\python" "$INSTDIR\old\python" 'RMDir /r "$INSTDIR\new"'
    Rename "$INSTDIR\licences" "$INSTDIR\old\licences"
    Delete "$INSTDIR\rooftop.exe"
    Delete "$INSTDIR\rooftop.com"
  ${EndIf}
  Rename "$INSTDIR\new\python" "$INSTDIR\python"
  Rename "$INSTDIR\new\licences" "$INSTDIR\licences"
  Rename "$INSTDIR\new\rooftop.exe" "$INSTDIR\rooftop.exe"
  Rename "$INSTDIR\new\rooftop.com" "$INSTDIR\rooftop.com"
  RMDir /r "$INSTDIR\new"
  RMDir /r "$INSTDIR\old"
  WriteUninstaller "$INSTDIR\uninstall.exe"

  CreateShortCut "$SMPROGRAMS\Rooftop.lnk" "$INSTDIR\rooftop.exe"
  WriteRegStr HKCU "Software\Rooftop" "Folder" "$INSTDIR"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "DisplayName" "Rooftop"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "DisplayVersion" "${VERSION}"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "DisplayIcon" "$INSTDIR\rooftop.exe"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "Publisher" "Rooftop"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "InstallLocation" "$INSTDIR"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "UninstallString" '"$INSTDIR\uninstall.exe"'
  WriteRegStr HKCU "${UNINSTALL_KEY}" "QuietUninstallString" '"$INSTDIR\uninstall.exe" /S'
  WriteRegDWORD HKCU "${UNINSTALL_KEY}" "EstimatedSize" ${SIZE_KB}
  WriteRegDWORD HKCU "${UNINSTALL_KEY}" "NoModify" 1
  WriteRegDWORD HKCU "${UNINSTALL_KEY}" "NoRepair" 1

  ; "Open with" for model files; what the user opens them with by default stays as it is.
  WriteRegStr HKCU "Software\Classes\Rooftop.gguf" "" "$(MODEL_FILE)"
  WriteRegStr HKCU "Software\Classes\Rooftop.gguf\DefaultIcon" "" "$INSTDIR\rooftop.exe,0"
  WriteRegStr HKCU "Software\Classes\Rooftop.gguf\shell\open\command" "" '"$INSTDIR\rooftop.exe" --model "%1"'
  WriteRegNone HKCU "Software\Classes\.gguf\OpenWithProgids" "Rooftop.gguf"
  ${RefreshShellIcons}
SectionEnd

Section /o "$(DESKTOP_ICON)" SectionDesktop
  CreateShortCut "$DESKTOP\Rooftop.lnk" "$INSTDIR\rooftop.exe"
SectionEnd

Function un.onInit
  SetShellVarContext current
FunctionEnd

Section "Uninstall"
  ${IfNot} ${FileExists} "$INSTDIR\rooftop.exe"
    Abort
  ${EndIf}
  !insertmacro WAIT_UNTIL_CLOSED
  SetOutPath "$TEMP" ; the folder is not to be this program's own
  ${If} ${FileExists} "$INSTDIR\python\*.*" ; an antivirus program may have taken it
    !insertmacro RENAME_WHEN_FREE "$INSTDIR\python" "$INSTDIR\old" ''
  ${EndIf}
  RMDir /r "$INSTDIR\old"
  RMDir /r "$INSTDIR\new"
  RMDir /r "$INSTDIR\licences"
  Delete "$INSTDIR\rooftop.exe"
  Delete "$INSTDIR\rooftop.com"
  Delete "$INSTDIR\uninstall.exe"
  RMDir "$INSTDIR"
  Delete "$SMPROGRAMS\Rooftop.lnk"
  Delete "$DESKTOP\Rooftop.lnk"
  DeleteRegKey HKCU "${UNINSTALL_KEY}"
  DeleteRegKey HKCU "Software\Rooftop"
  DeleteRegKey HKCU "Software\Classes\Rooftop.gguf"
  DeleteRegValue HKCU "Software\Classes\.gguf\OpenWithProgids" "Rooftop.gguf"
  DeleteRegKey /ifempty HKCU "Software\Classes\.gguf\OpenWithProgids"
  DeleteRegKey /ifempty HKCU "Software\Classes\.gguf"
  ${un.RefreshShellIcons}

  ; /DELETEDATA answers for scripts; otherwise silent mode keeps everything.
  ${un.GetParameters} $0
  ClearErrors
  ${un.GetOptions} $0 "/DELETEDATA" $1
  ${IfNot} ${Errors}
    RMDir /r "$LOCALAPPDATA\rooftop"
  ${Else}
    MessageBox MB_YESNO|MB_ICONQUESTION|MB_DEFBUTTON2 "$(DELETE_DATA)" /SD IDNO IDNO keep
    RMDir /r "$LOCALAPPDATA\rooftop"
    keep:
  ${EndIf}
SectionEnd
